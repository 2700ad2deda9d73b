//! A sheet of products: groups of numbers, what they are multiplied with, and the products, side by side.

use super::canvas::{Canvas, Grid, MARGIN, side_of, width_of};
use super::words::Words;
use crate::error::Result;
use crate::look::picture::{ColourMap, Range, Raster};
use crate::look::report::fill;
use crate::page::number::figure;

/// Groups that are drawn, and of single numbers.
const MOST_GROUPS: usize = 4;
const MOST_SINGLE: usize = 12;
/// How large the image is drawn.
const IMAGE: f64 = 190.0;
/// Between two grids, where the signs stand, and between two rows of them.
const GAP: f64 = 34.0;
const BETWEEN: f64 = 30.0;
/// The least width of a legend.
const LEGEND: f64 = 96.0;
/// Height of a line of text.
pub(super) const LINE: f64 = 21.0;

/// One number times another.
pub(super) struct Item {
    /// Channel, row and column, by which it is ordered into a group, a row and a column.
    pub at: [i64; 3],
    pub first: f64,
    pub second: f64,
    pub product: f64,
    pub padding: bool,
    pub marked: bool,
}

/// The image with a part of it in a frame.
pub(super) struct Seen {
    pub raster: Raster,
    pub rows: std::ops::Range<usize>,
    pub columns: std::ops::Range<usize>,
}

/// What a sheet shows.
pub(super) struct Sheet<'a> {
    pub title: String,
    pub about: Vec<String>,
    pub seen: Option<Seen>,
    /// Names of the three columns; only the first is drawn if there is one.
    pub heads: Vec<&'a str>,
    /// What a group is called, with a place for its number.
    pub group: &'a str,
    pub items: Vec<Item>,
    pub lines: Vec<String>,
}

/// The items of one channel in rows and columns.
struct Group<'a> {
    channel: i64,
    size: [usize; 2],
    items: Vec<&'a Item>,
}

impl Group<'_> {
    fn sum(&self) -> f64 {
        self.items.iter().map(|item| item.product).sum()
    }
}

impl Sheet<'_> {
    /// Draws everything below what the canvas holds already.
    pub fn draw(&self, canvas: &mut Canvas, words: &Words) -> Result<()> {
        let top = if canvas.height > 0.0 { canvas.height + BETWEEN } else { MARGIN };
        canvas.text("title", [MARGIN, top + 16.0], self.title.as_str());
        let mut y = top + 16.0 + LINE;
        for line in &self.about {
            canvas.text("soft", [MARGIN, y], line.as_str());
            y += LINE;
        }
        y += 4.0;
        let mut left = MARGIN;
        if let Some(seen) = &self.seen {
            left += image(canvas, seen, [MARGIN, y + LINE], words)? + GAP;
        }
        let bottom = self.groups(canvas, [left, y], words)?;
        let mut line = bottom.max(canvas.height) + 8.0;
        for (place, text) in self.lines.iter().enumerate() {
            line += LINE;
            let last = place + 1 == self.lines.len();
            canvas.text(if last { "strong" } else { "plain" }, [MARGIN, line], text.as_str());
        }
        Ok(())
    }

    /// Draws the groups with the largest sums; gives where they end.
    fn groups(&self, canvas: &mut Canvas, [left, top]: [f64; 2], words: &Words) -> Result<f64> {
        let groups = groups(&self.items);
        let single = groups.iter().all(|group| group.items.len() == 1);
        let most = if single { MOST_SINGLE } else { MOST_GROUPS };
        let mut order: Vec<usize> = (0..groups.len()).collect();
        order.sort_by(|a, b| groups[*b].sum().abs().total_cmp(&groups[*a].sum().abs()).then(a.cmp(b)));
        let rest: f64 = order.iter().skip(most).map(|place| groups[*place].sum()).sum();
        let left_out = order.len().saturating_sub(most);
        order.truncate(most);
        order.sort_unstable();
        let columns: [fn(&Item) -> f64; 3] = [|item| item.first, |item| item.second, |item| item.product];
        let scales: Vec<(Range, ColourMap)> = (0..self.heads.len())
            .map(|column| scale(order.iter().flat_map(|place| &groups[*place].items).map(|item| columns[column](item))))
            .collect();
        // Every column is as wide as its widest grid, its head and its legend need.
        let head = self.heads.iter().map(|head| width_of(head)).fold(LEGEND, f64::max);
        let box_of = |group: &Group<'_>| side_of(group.size) * group.size[1] as f64;
        let width = order.iter().map(|place| box_of(&groups[*place])).fold(head, f64::max);
        let step = width + GAP;
        let end = left + step * self.heads.len() as f64 - GAP + 12.0;
        for (column, head) in self.heads.iter().enumerate() {
            canvas.text("head middle", [left + step * column as f64 + width / 2.0, top + 12.0], *head);
        }
        if single && !order.is_empty() {
            canvas.text("head", [end, top + 12.0], words.single);
        }
        let mut y = top + LINE;
        for place in &order {
            let group = &groups[*place];
            let middle = y + side_of(group.size) * group.size[0] as f64 / 2.0;
            for (column, (range, map)) in scales.iter().enumerate() {
                let number = |item: &&Item| (column == 1 || !item.padding).then(|| columns[column](item));
                let numbers: Vec<Option<f64>> = group.items.iter().map(number).collect();
                let marked = group.items.iter().position(|item| item.marked);
                let grid = Grid { numbers: &numbers, size: group.size, range: *range, map: *map, marked };
                let x = left + step * column as f64;
                canvas.grid(&grid, [x + (width - box_of(group)) / 2.0, y], words.padding)?;
                if column > 0 {
                    let sign = ["×", "="][column - 1];
                    canvas.text("sign middle", [x - GAP / 2.0, middle + 7.0], sign);
                }
            }
            canvas.text("plain", [end, middle + 5.0], self.label(group, words));
            y = 2.0 * middle - y + if single { 4.0 } else { 14.0 };
        }
        if left_out > 0 {
            canvas.text("soft", [left, y + 14.0], fill(words.more, &[&left_out.to_string(), &figure(rest)]));
            y += LINE;
        }
        y += 8.0;
        for (column, (range, map)) in scales.iter().enumerate() {
            canvas.legend(*range, *map, [left + step * column as f64, y], width)?;
        }
        Ok(y + 24.0)
    }

    /// What stands beside a group: its channel and sum, or the place of a single number.
    fn label(&self, group: &Group<'_>, words: &Words) -> String {
        if let [item] = group.items[..] {
            return item.at.map(|place| place.to_string()).join(", ");
        }
        let name = fill(self.group, &[&group.channel.to_string()]);
        if self.heads.len() > 1 { format!("{name}: {} {}", words.sum, figure(group.sum())) } else { name }
    }
}

/// Draws the image with its frame; gives its width.
fn image(canvas: &mut Canvas, seen: &Seen, [x, y]: [f64; 2], words: &Words) -> Result<f64> {
    let (height, width) = (seen.raster.height(), seen.raster.width());
    let pixel = IMAGE / height.max(width) as f64;
    let size = [pixel * width as f64, pixel * height as f64];
    canvas.text("head", [x, y - 9.0], words.image);
    canvas.picture(&seen.raster, [x, y], size)?;
    canvas.frame("line", [x, y], size);
    let corner = [x + pixel * seen.columns.start as f64, y + pixel * seen.rows.start as f64];
    canvas.frame("mark", corner, [pixel * seen.columns.len() as f64, pixel * seen.rows.len() as f64]);
    Ok(size[0].max(width_of(words.image)))
}

/// From −m to m, or from 0 where nothing is negative.
fn scale(numbers: impl Iterator<Item = f64>) -> (Range, ColourMap) {
    Range::suited(&numbers.map(|number| number as f32).collect::<Vec<_>>())
}

/// The items channel by channel: as a grid where they fill one, otherwise each by itself.
fn groups(items: &[Item]) -> Vec<Group<'_>> {
    let mut groups = Vec::new();
    for items in items.chunk_by(|a, b| a.at[0] == b.at[0]) {
        let distinct = |axis: usize| {
            let mut places: Vec<i64> = items.iter().map(|item| item.at[axis]).collect();
            places.sort_unstable();
            places.dedup();
            places
        };
        let (rows, columns) = (distinct(1), distinct(2));
        if rows.len() * columns.len() == items.len() {
            let mut items: Vec<&Item> = items.iter().collect();
            items.sort_by_key(|item| (item.at[1], item.at[2]));
            groups.push(Group { channel: items[0].at[0], size: [rows.len(), columns.len()], items });
        } else {
            groups.extend(items.iter().map(|item| Group { channel: item.at[0], size: [1, 1], items: vec![item] }));
        }
    }
    groups
}
