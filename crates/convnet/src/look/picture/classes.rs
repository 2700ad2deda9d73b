//! Colours that classes are told apart by, also by people who see fewer colours than others.

/// M. Petroff, "Accessible color sequences for data visualization" (2021), the sequence of ten.
const COLOURS: [[u8; 3]; 10] = [
    [0x3f, 0x90, 0xda],
    [0xff, 0xa9, 0x0e],
    [0xbd, 0x1f, 0x01],
    [0x94, 0xa4, 0xa2],
    [0x83, 0x2d, 0xb6],
    [0xa9, 0x6b, 0x59],
    [0xe7, 0x63, 0x00],
    [0xb9, 0xac, 0x70],
    [0x71, 0x75, 0x81],
    [0x92, 0xda, 0xdd],
];

/// Colours before they begin again: no more can be told apart.
pub const CLASS_COLOURS: usize = COLOURS.len();

/// Red, green and blue for a class.
pub fn class_colour(class: usize) -> [u8; 3] {
    COLOURS[class % COLOURS.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::colour::{decoded, lab_of_light};

    /// What is left of the light of a colour where the cones for red or those for green are missing (Viénot, Brettel and
    /// Mollon, "Digital video colourmaps for checking the legibility of displays by dichromats", 1999), or nothing is.
    const EYES: [[[f64; 3]; 3]; 3] = [
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        [[0.11238, 0.88762, 0.0], [0.11238, 0.88762, 0.0], [0.00401, -0.00401, 1.0]],
        [[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]],
    ];

    #[test]
    fn classes_can_be_told_apart_whichever_cones_are_missing() {
        for (eye, matrix) in EYES.iter().enumerate() {
            let seen = |class: usize| {
                let light = class_colour(class).map(decoded);
                lab_of_light(matrix.map(|row| row.iter().zip(light).map(|(share, light)| share * light).sum::<f64>().max(0.0)))
            };
            for (a, b) in (0..CLASS_COLOURS).flat_map(|a| (0..a).map(move |b| (a, b))) {
                let distance = seen(a).iter().zip(seen(b)).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
                assert!(distance > 0.05, "eye {eye}: classes {a} and {b} are {distance} apart");
            }
        }
        assert_eq!(class_colour(CLASS_COLOURS + 3), class_colour(3));
    }
}
