//! A ruleset as `serde` reads and writes it: services, each with its destinations.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Ruleset;
use crate::forms::{OnlyMap, list};
use crate::model::{Destination, Invalid, Service};

/// A ruleset that is written.
#[derive(Serialize)]
struct WrittenRuleset {
    services: Vec<WrittenService>,
}

/// A ruleset that is read. Its services are checked one by one, so that an error tells its place.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReadRuleset {
    #[serde(deserialize_with = "read")]
    services: Ruleset,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenService {
    service: Service,
    /// Whether a kernel holds the service, though [`Service::check`] refuses it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    as_is: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[serde(deserialize_with = "list::deserialize")]
    destinations: Vec<Destination>,
}

/// A service that is read, with its destinations.
struct ReadService(WrittenService);

impl Serialize for Ruleset {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let services = self.services().map(|rules| WrittenService {
            service: *rules.service(),
            as_is: rules.service().check().is_err(),
            destinations: rules.destinations().copied().collect(),
        });
        WrittenRuleset { services: services.collect() }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Ruleset {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map = OnlyMap::<ReadRuleset>::new("a ruleset: a map with its services");
        deserializer.deserialize_any(map).map(|ReadRuleset { services }| services)
    }
}

impl<'de> Deserialize<'de> for ReadService {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map = OnlyMap::new("a map of a service and its destinations");
        deserializer.deserialize_any(map).map(Self)
    }
}

fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Ruleset, D::Error> {
    let mut rules = Ruleset::new();
    list::each(deserializer, |ReadService(service)| insert(&mut rules, service))?;
    Ok(rules)
}

fn insert(rules: &mut Ruleset, read: WrittenService) -> Result<(), Invalid> {
    let WrittenService { service, as_is, destinations } = read;
    let key = service.key;
    let about = |invalid: Invalid| Invalid::new(format!("service {key}: {invalid}"));
    let inserted = if as_is { rules.insert_as_is(service) } else { rules.insert_service(service) };
    if inserted.map_err(about)?.is_some() {
        return Err(Invalid::new(format!("service {key} is there twice")));
    }
    for destination in destinations {
        let twice = rules.insert_destination(key, destination).map_err(|invalid| {
            about(Invalid::new(format!("destination {}: {invalid}", destination.key)))
        })?;
        if twice.is_some() {
            let twice = format!("destination {} is there twice", destination.key);
            return Err(about(Invalid::new(twice)));
        }
    }
    Ok(())
}
