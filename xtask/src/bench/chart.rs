//! The chart of a benchmark: rules per second by the table's size, ours beside the others.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// The rules per second of a row at some size of the table.
pub(super) struct Rate {
    row: String,
    size: String,
    value: f64,
}

impl Rate {
    /// Reads a line such as `rate floor@1000x10 70000`. A scheduler other than the usual one stands behind the size; the chart
    /// leaves such lines out.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let (name, value) = line.strip_prefix("rate ")?.split_once(' ')?;
        let (row, size) = name.split_once('@')?;
        let value = value.parse().ok()?;
        Some(Self { row: row.to_owned(), size: size.to_owned(), value })
    }

    fn is_charted(&self) -> bool {
        !self.size.contains('-')
    }
}

/// The rows of other clients, each in a colour of its own.
const OTHERS: [(&str, RGBColor); 4] = [
    ("floor", RGBColor(130, 130, 130)),
    ("ipvsadm", RGBColor(200, 60, 40)),
    ("nlrs", RGBColor(240, 150, 30)),
    ("netlink-packet-ipvs", RGBColor(225, 195, 60)),
];

/// The part of the chart's width that is left to the legend.
const LEGEND: f64 = 0.2;
/// The part of a group's width that its bars take.
const FILLED: f64 = 0.9;

/// Draws a bar for each row in a group for each size, on a logarithmic axis.
pub(super) fn draw(rates: &[Rate], file: &Path) -> Result<()> {
    let area = SVGBackend::new(file, (1200, 620)).into_drawing_area();
    let drawn = draw_on(&area, rates).and_then(|()| area.present().map_err(|e| anyhow!("{e}")));
    drawn.with_context(|| format!("{} cannot be drawn", file.display()))
}

fn draw_on(area: &DrawingArea<SVGBackend<'_>, Shift>, rates: &[Rate]) -> Result<()> {
    let rates: Vec<_> = rates.iter().filter(|rate| rate.is_charted()).collect();
    let sizes = distinct(rates.iter().map(|rate| rate.size.as_str()));
    let rows = distinct(rates.iter().map(|rate| rate.row.as_str()));
    let values = || rates.iter().map(|rate| rate.value);
    let lowest = 10f64.powf(values().fold(f64::MAX, f64::min).log10().floor());
    let highest = values().fold(0.0, f64::max) * 2.0;

    let failed = |error: DrawingAreaErrorKind<std::io::Error>| anyhow!("{error}");
    area.fill(&WHITE).map_err(failed)?;
    let mut chart = ChartBuilder::on(area)
        .caption("Rules written a second, by the table's size", ("sans-serif", 24))
        .margin(12)
        .x_label_area_size(50)
        .y_label_area_size(90)
        .build_cartesian_2d(
            0.0..position(sizes.len()) * (1.0 + LEGEND),
            (lowest..highest).log_scale(),
        )
        .map_err(failed)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(0)
        .x_desc("services x destinations of each")
        .y_desc("rules a second, logarithmic")
        .y_label_formatter(&|rate| format!("{rate:.0}"))
        .label_style(("sans-serif", 15))
        .axis_desc_style(("sans-serif", 17))
        .draw()
        .map_err(failed)?;

    let width = FILLED / position(rows.len());
    let left =
        |group: usize, bar: usize| position(group) + (1.0 - FILLED) / 2.0 + position(bar) * width;
    for (bar, row) in rows.iter().enumerate() {
        let color = color(row, bar);
        let of_row = rates.iter().filter(|rate| rate.row == *row);
        let bars = of_row.filter_map(|rate| {
            let start = left(sizes.iter().position(|size| *size == rate.size)?, bar);
            let corners = [(start, lowest), (start + width * 0.9, rate.value)];
            Some(Rectangle::new(corners, color.filled()))
        });
        let legend = move |(x, y)| Rectangle::new([(x, y - 6), (x + 12, y + 6)], color.filled());
        chart.draw_series(bars).map_err(failed)?.label(*row).legend(legend);
    }
    let style = |size| {
        let style = TextStyle::from(("sans-serif", size).into_font());
        style.pos(Pos::new(HPos::Center, VPos::Bottom))
    };
    let above = rates.iter().filter_map(|rate| {
        let group = sizes.iter().position(|size| *size == rate.size)?;
        let bar = rows.iter().position(|row| *row == rate.row)?;
        let at = (left(group, bar) + width * 0.45, rate.value * 1.03);
        Some(Text::new(thousands(rate.value), at, style(12)))
    });
    chart.draw_series(above).map_err(failed)?;
    for (group, size) in sizes.iter().enumerate() {
        let (x, y) = chart.backend_coord(&(position(group) + 0.5, lowest));
        area.draw(&Text::new((*size).to_owned(), (x, y + 22), style(16))).map_err(failed)?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.9))
        .border_style(BLACK.mix(0.3))
        .label_font(("sans-serif", 14))
        .draw()
        .map_err(failed)
}

/// Our rows are blue, each lighter than the one before.
fn color(row: &str, bar: usize) -> RGBColor {
    let other = OTHERS.iter().find(|(name, _)| *name == row);
    let lighter = u8::try_from(bar * 30).unwrap_or(u8::MAX).min(190);
    other.map_or(RGBColor(lighter, 70 + lighter / 2, 180), |(_, color)| *color)
}

/// Each text once, in the order of first appearance.
fn distinct<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut distinct = Vec::new();
    for text in texts {
        if !distinct.contains(&text) {
            distinct.push(text);
        }
    }
    distinct
}

fn thousands(value: f64) -> String {
    let value = value / 1000.0;
    if value < 10.0 { format!("{value:.1}k") } else { format!("{value:.0}k") }
}

/// A small number on an axis.
fn position(index: usize) -> f64 {
    u32::try_from(index).map(f64::from).unwrap_or_default()
}
