//! The public message works with the `genetlink` crate of the rust-netlink family.

use anyhow::bail;
use futures_util::StreamExt as _;
use genetlink::new_connection;
use ipvs_netlink::wire::{Command, Message};
use ipvs_netlink::{Info, ServiceEntry};
use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_generic::GenlMessage;

use crate::case::{Outcome, cases};
use crate::rules::web;
use crate::subject::Subject;

cases![a_message_travels_with_genetlink];

async fn a_message_travels_with_genetlink(subject: &mut Subject) -> Outcome {
    subject.client.add_service(&web()).await?;
    let answers = ask(Command::GetService, NLM_F_DUMP).await?;
    assert_eq!(answers.len(), 1);
    let entry = ServiceEntry::try_from(&answers[0].service.unwrap())?;
    assert_eq!(entry, subject.client.service(web().key).await?);
    let answers = ask(Command::GetInfo, 0).await?;
    assert_eq!(Info::try_from(&answers[0])?, subject.client.info().await?);
    Ok(())
}

async fn ask(command: Command, flags: u16) -> anyhow::Result<Vec<Message>> {
    let (connection, mut handle, _) = new_connection()?;
    tokio::spawn(connection);
    let mut request = NetlinkMessage::from(GenlMessage::from_payload(Message::new(command)));
    request.header.flags = NLM_F_REQUEST | flags;
    let mut stream = handle.request(request).await?;
    let mut answers = Vec::new();
    while let Some(answer) = stream.next().await {
        match answer?.payload {
            NetlinkPayload::InnerMessage(message) => answers.push(message.payload),
            NetlinkPayload::Done(_) => {}
            other => bail!("unexpected {other:?}"),
        }
    }
    Ok(answers)
}
