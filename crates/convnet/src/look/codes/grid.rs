//! A map whose images do not overlap: each point goes to a cell of a grid, no two to the same, so that the sum of squared
//! distances is the least there is. Found by shortest augmenting paths (Jonker and Volgenant, "A shortest augmenting path
//! algorithm for dense and sparse linear assignment problems", 1987), in at most rows²·columns steps.

use crate::error::{Error, Result};

/// The most points that go to a grid.
const MOST: usize = 2048;

/// The cell of each point, row by row, on a grid that is stretched over all points.
///
/// # Errors
/// There is no point, there are more points than cells or than 2048, or a place is not finite.
pub fn grid(points: &[[f64; 2]], rows: usize, columns: usize) -> Result<Vec<usize>> {
    let (n, cells) = (points.len(), rows.saturating_mul(columns));
    if n == 0 || n > cells || cells > MOST || points.iter().flatten().any(|place| !place.is_finite()) {
        return Err(Error::Argument(format!(
            "{n} points on a grid of {rows}x{columns} cells; there is a cell for each point, at most {MOST} cells, and all places are finite"
        )));
    }
    let ends = [0, 1].map(|axis| {
        let of = |first: f64, choose: fn(f64, f64) -> f64| points.iter().map(|point| point[axis]).fold(first, choose);
        (of(f64::INFINITY, f64::min), of(f64::NEG_INFINITY, f64::max))
    });
    let share = |place: f64, (low, high): (f64, f64)| if high > low { (place - low) / (high - low) } else { 0.5 };
    let centre = |number: usize, count: usize| (number as f64 + 0.5) / count as f64;
    let costs: Vec<f64> = points
        .iter()
        .flat_map(|point| {
            let [x, y] = [0, 1].map(|axis| share(point[axis], ends[axis]));
            // Rows of the grid go down, the second coordinate goes up.
            let square =
                move |cell: usize| (x - centre(cell % columns, columns)).powi(2) + (1.0 - y - centre(cell / columns, rows)).powi(2);
            (0..cells).map(square)
        })
        .collect();
    assign(&costs, n, cells)
}

/// A column for each row, no two the same, with the least sum of costs, rows × columns. Of several, which one is decided by
/// the order of the numbers alone.
///
/// # Errors
/// There are more rows than columns, not rows·columns costs, or a cost is not finite.
pub fn assign(costs: &[f64], rows: usize, columns: usize) -> Result<Vec<usize>> {
    if rows > columns || rows.checked_mul(columns) != Some(costs.len()) || costs.iter().any(|cost| !cost.is_finite()) {
        return Err(Error::Argument(format!(
            "{} costs for {rows} rows and {columns} columns; there are rows·columns finite costs, and a column for each row",
            costs.len()
        )));
    }
    let mut found = Matching { costs, columns, of_row: vec![0.0; rows], of_column: vec![0.0; columns], owner: vec![None; columns] };
    (0..rows).for_each(|row| found.add(row));
    let mut chosen = vec![0; rows];
    for (column, owner) in found.owner.iter().enumerate() {
        if let Some(row) = owner {
            chosen[*row] = column;
        }
    }
    Ok(chosen)
}

/// Rows that have a column, and prices that prove that no exchange is cheaper: cost ≥ price of the row + price of the column,
/// equal where a row has the column.
struct Matching<'a> {
    costs: &'a [f64],
    columns: usize,
    of_row: Vec<f64>,
    of_column: Vec<f64>,
    /// The row that has each column.
    owner: Vec<Option<usize>>,
}

impl Matching<'_> {
    /// Gives a row a column along the cheapest chain of exchanges.
    fn add(&mut self, new: usize) {
        let mut distance = vec![f64::INFINITY; self.columns];
        let mut from = vec![new; self.columns];
        let mut done = vec![false; self.columns];
        let mut reached: Vec<usize> = Vec::new();
        let (mut row, mut so_far) = (new, 0.0);
        let last = loop {
            let mut best = (f64::INFINITY, usize::MAX);
            for column in (0..self.columns).filter(|column| !done[*column]) {
                let through = so_far + self.costs[row * self.columns + column] - self.of_row[row] - self.of_column[column];
                if through < distance[column] {
                    (distance[column], from[column]) = (through, row);
                }
                if distance[column] < best.0 {
                    best = (distance[column], column);
                }
            }
            let column = best.1;
            so_far = best.0;
            let Some(owner) = self.owner[column] else { break column };
            done[column] = true;
            reached.push(column);
            row = owner;
        };
        self.of_row[new] += so_far;
        for column in reached {
            let less = so_far - distance[column];
            self.of_column[column] -= less;
            if let Some(owner) = self.owner[column] {
                self.of_row[owner] += less;
            }
        }
        let mut column = last;
        while from[column] != new {
            let row = from[column];
            // The column that this row gives up.
            let given = (0..self.columns).find(|other| self.owner[*other] == Some(row)).unwrap_or(column);
            self.owner[column] = Some(row);
            column = given;
        }
        self.owner[column] = Some(new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost_of(costs: &[f64], columns: usize, chosen: &[usize]) -> f64 {
        chosen.iter().enumerate().map(|(row, column)| costs[row * columns + column]).sum()
    }

    /// The least sum over all ways, by trying them.
    fn least(costs: &[f64], columns: usize, row: usize, taken: u32) -> f64 {
        if row == costs.len() / columns {
            return 0.0;
        }
        let free = (0..columns).filter(|column| taken >> column & 1 == 0);
        free.map(|column| costs[row * columns + column] + least(costs, columns, row + 1, taken | 1 << column)).fold(f64::INFINITY, f64::min)
    }

    #[test]
    fn the_assignment_is_the_cheapest_of_all() {
        for (rows, columns) in [(1, 1), (2, 5), (4, 4), (6, 6), (5, 7)] {
            for seed in 0..20 {
                let costs: Vec<f64> = (0..rows * columns).map(|i| ((i * 7919 + seed * 104_729) % 23) as f64 - 4.0).collect();
                let chosen = assign(&costs, rows, columns).unwrap();
                let mut once = chosen.clone();
                once.sort_unstable();
                once.dedup();
                assert_eq!(once.len(), rows, "no column twice");
                let found = cost_of(&costs, columns, &chosen);
                assert!((found - least(&costs, columns, 0, 0)).abs() < 1e-9, "{rows}x{columns} {seed}: {chosen:?}");
            }
        }
    }

    #[test]
    fn points_on_a_grid_stay_where_they_are() {
        // Rows count from the top, so the cell of the lowest point is in the last row.
        let points: Vec<[f64; 2]> = (0..6).map(|cell| [(cell % 3) as f64, -((cell / 3) as f64)]).collect();
        assert_eq!(grid(&points, 2, 3).unwrap(), [0, 1, 2, 3, 4, 5]);
        let same = grid(&[[1.0, 1.0]; 4], 2, 2).unwrap();
        assert_eq!(
            {
                let mut cells = same.clone();
                cells.sort_unstable();
                cells
            },
            [0, 1, 2, 3]
        );
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(grid(&[[0.0; 2]; 5], 2, 2).unwrap_err().to_string().contains("2x2"));
        assert!(grid(&[], 2, 2).is_err() && grid(&[[f64::NAN; 2]], 2, 2).is_err() && grid(&[[0.0; 2]], usize::MAX, 2).is_err());
        assert!(assign(&[1.0; 6], 3, 2).is_err() && assign(&[1.0; 5], 2, 3).is_err() && assign(&[f64::NAN], 1, 1).is_err());
    }
}
