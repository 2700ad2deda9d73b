//! The words of the report, one table for each language. `{0}`, `{1}` stand for what is filled in.

use crate::look::attribution::Method;

mod codes;
mod english;
mod korean;

pub(super) use codes::CodeTexts;
pub(super) use english::ENGLISH;
pub(super) use korean::KOREAN;

/// What is said of a method of attribution.
pub(super) struct MethodTexts {
    pub name: &'static str,
    /// What a map of it says.
    pub meaning: &'static str,
    /// What everybody who looks at such a map should know.
    pub warning: Option<&'static str>,
}

impl Texts {
    /// What is said of a method.
    pub fn method(&self, method: Method) -> &MethodTexts {
        let place = Method::ALL.iter().position(|other| *other == method);
        &self.methods[place.unwrap_or(0)]
    }
}

/// A struct of texts, which can tell all of them with their names.
macro_rules! table {
    ($(#[$about:meta])* $table:ident { $($more:ident: $kind:ty,)* } $($name:ident,)*) => {
        $(#[$about])*
        pub(in crate::look::report) struct $table {
            $(pub $name: &'static str,)*
            $(pub $more: $kind,)*
        }

        #[cfg(test)]
        impl $table {
            /// Every text with its name.
            pub fn all(&self) -> Vec<(&'static str, &'static str)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }
    };
}
use table;

table! {
    /// Every text of the page, what is said of each method, in the order of [`Method::ALL`], and the parts about codes.
    Texts { methods: [MethodTexts; Method::ALL.len()], codes: CodeTexts, }

    code,
    kind,
    skip,
    parts,
    lead,
    exact,
    estimated,
    sampled,
    exact_means,
    estimated_means,
    sampled_means,
    how,
    how_marks,
    how_pointer,
    parameters,
    parameters_note,
    filters,
    filters_note,
    dead_channels,
    dead_note,
    sparsity,
    sparsity_note,
    images,
    images_about,
    image_alt,
    image_is,
    receptive_fields,
    fields_about,
    field_alt,
    field_note,
    field_whole,
    statistics,
    statistics_about,
    statistics_rule,
    statistics_table,
    layer,
    mean,
    deviation,
    lowest,
    highest,
    zeros,
    channels,
    dead,
    layers,
    layers_about,
    layers_nav,
    output,
    macs,
    receptive_field,
    whole_image,
    jump,
    filters_images,
    filters_grid,
    filters_cut,
    filters_alt,
    filter,
    filter_alt,
    channel,
    maps,
    maps_figures,
    maps_cut,
    maps_means,
    maps_alt,
    map,
    each_low,
    each_high,
    neurons,
    neurons_rule,
    neuron,
    more_neurons,
    flag_dead,
    flag_silent,
    flag_double,
    flag_opposite,
    figure_norm,
    figure_mean,
    figure_active,
    row,
    column,
    attribution,
    attribution_about,
    attribution_of,
    attribution_alt,
    attribution_layer,
    completeness,
    deletion,
    insertion,
    no_positive,
    no_evidence,
    randomisation_alt,
    randomisation_last,
    no_order,
    stays_alike,
    synthetic_short,
    synthetic_alt,
    dreams,
    dreams_about,
    dream_alt,
    dream_note,
    for_middle,
    for_place,
    for_mean,
    by_waves,
    by_pixels,
    by_plain_pixels,
    synthetic_about,
    synthetic_value,
    opposite,
    opposite_alt,
    diverse,
    diverse_alt,
    standing,
    standing_above,
    negative_about,
    diverse_about,
    patches_about,
    from_data,
    top_alt,
    bottom_alt,
    placed,
    placed_alt,
    most,
    least,
    effective_alt,
    effective_note,
    effective_about,
    filmstrip,
    filmstrip_about,
    filmstrip_table,
    frame_start,
    frame_epoch,
    frame_accuracy,
    frame_filters,
    frame_filters_alt,
    frame_neuron_alt,
    to_top,
    arithmetic,
    arithmetic_about,
    next,
    mistakes,
    mistakes_about,
    accuracy,
    interval_note,
    top5,
    top5_note,
    ece,
    ece_note,
    brier,
    brier_note,
    confusion,
    confusion_about,
    confusion_cell,
    confusion_colours,
    called,
    others,
    worst,
    worst_about,
    pairs_of,
    wrong_alt,
    calibration,
    calibration_about,
    over_confident,
    under_confident,
    calibration_alt,
    confidence,
    confidence_axis,
    accuracy_axis,
    images_axis,
    bin_title,
    accuracy_key,
    over_key,
    under_key,
    bounds_key,
    bins_table,
    curves,
    curves_about,
    curves_of,
    curves_alt,
}

/// A text with its places filled.
pub(in crate::look) fn fill(text: &str, values: &[&str]) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    // One pass: what is filled in is never looked through for places.
    while let Some(start) = rest.find('{') {
        filled += &rest[..start];
        rest = &rest[start..];
        match rest.find('}').and_then(|end| Some((end, values.get(rest[1..end].parse::<usize>().ok()?)?))) {
            Some((end, value)) => {
                filled += value;
                rest = &rest[end + 1..];
            }
            None => {
                filled.push('{');
                rest = &rest[1..];
            }
        }
    }
    filled + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_filled_once_and_others_stay() {
        assert_eq!(fill("{1} of {0}, {7} {x}", &["{1}", "two"]), "two of {1}, {7} {x}");
    }

    #[test]
    fn both_languages_say_everything_with_the_same_places() {
        let all = |texts: &Texts| [texts.all(), texts.codes.all()].concat();
        for ((name, english), (_, korean)) in all(&ENGLISH).into_iter().zip(all(&KOREAN)) {
            assert!(!english.is_empty() && !korean.is_empty(), "{name}");
            for place in 0..6 {
                let place = format!("{{{place}}}");
                assert_eq!(english.contains(&place), korean.contains(&place), "{name}: {place}");
            }
        }
    }

    #[test]
    fn the_korean_texts_are_korean() {
        let hangul = |text: &str| text.chars().any(|letter| ('가'..='힣').contains(&letter));
        let without: Vec<_> =
            [KOREAN.all(), KOREAN.codes.all()].concat().into_iter().filter(|(_, text)| !hangul(text)).map(|(name, _)| name).collect();
        assert_eq!(without, ["code", "kind", "macs"]);
    }
}
