//! Claims about the whole page.

use std::collections::BTreeSet;

use convnet_kernels::Machine;

use super::*;
use crate::data::{Dataset, Normalisation, Split};
use crate::look::attribution::Method;
use crate::look::codes::{Asked, InversionRecipe};
use crate::look::maximise::{PerChannel, Recipe};
use crate::look::{NamedImage, Options};
use crate::model::Model;
use crate::network::{Network, Parameters};
use crate::page::reading::{attributes, elements};
use crate::train::Trainer;

const TEXT: &str = "conv 5 3x3 pad 1 -> bn -> relu -> conv 6 3x3 stride 2 -> relu -> global avgpool -> flatten -> fc 3";

fn model(channels: usize, text: &str, classes: &[&str]) -> Model {
    let network = Network::parse(&format!("input {channels}x12x10 -> {text}")).unwrap();
    let parameters = Parameters::build(&network, |index, spec| {
        (0..spec.count())
            .map(|place| ((place * 31 + index * 7) as f32).sin().abs() + if spec.name == "weight" { -0.4 } else { 0.01 })
            .collect()
    });
    let normalisation = Normalisation { mean: vec![0.5; channels], std: vec![0.5; channels] };
    Model::new(network, parameters.unwrap(), classes.iter().map(|class| (*class).to_owned()).collect(), normalisation).unwrap()
}

fn image(channels: usize, name: &str) -> NamedImage {
    let bytes = (0..channels * 120).map(|pixel| (pixel * 89 % 256) as u8).collect();
    NamedImage { name: name.into(), bytes, label: Some("cat".into()) }
}

fn split(channels: usize) -> Split {
    Split::new([channels, 12, 10], (0..4 * channels * 120).map(|pixel| (pixel * 53 % 256) as u8).collect(), vec![0, 1, 2, 0]).unwrap()
}

fn gathered<'a>(model: &'a Model, images: Vec<NamedImage>, split: Option<&'a Split>, layers: &[&str]) -> Contents<'a> {
    let layers = layers.iter().map(|layer| (*layer).to_owned()).collect();
    let machine = Machine::detect().unwrap();
    let options = Options { layers, images, split, samples: 3, ..Options::new(machine) };
    Contents::gather(model, &options, |_| {}).unwrap()
}

fn page(contents: &Contents<'_>, language: Language) -> String {
    render(contents, "A model", &["convnet eval run".to_owned()], language).unwrap()
}

fn whole(channels: usize, language: Language) -> String {
    let model = model(channels, TEXT, &["cat", "dog", "cow"]);
    let split = split(channels);
    page(&gathered(&model, vec![image(channels, "a.png"), image(channels, "b.png")], Some(&split), &[]), language)
}

#[test]
fn every_layer_and_every_neuron_can_be_linked_to() {
    let page = whole(1, Language::En);
    let ids = attributes(&page, "id");
    let set: BTreeSet<&str> = ids.iter().map(String::as_str).collect();
    assert_eq!(set.len(), ids.len(), "each id stands once");
    for id in ["conv1", "bn1", "relu2", "fc1", "conv1/0", "conv1/4", "conv2/5", "fc1/2", "conv1/filters", "conv1/maps", "part/statistics"] {
        assert!(set.contains(id), "{id}");
    }
    assert!(!set.contains("conv1/5") && !set.contains("relu1/0"), "only what there is");
    let links: Vec<String> = attributes(&page, "href").into_iter().filter_map(|link| Some(link.strip_prefix('#')?.to_owned())).collect();
    assert!(links.iter().all(|link| set.contains(link.as_str())), "{links:?}");
    for id in ids.iter().filter(|id| id.starts_with("part/") && id.matches('/').count() == 1 && *id != "part/numbers") {
        assert!(links.contains(id), "{id} is in the list of parts");
    }
}

#[test]
fn every_picture_has_words_a_legend_or_bytes_and_numbers() {
    for channels in [1, 3, 4] {
        let page = whole(channels, Language::En);
        let pictures = attributes(&page, "src").len();
        assert!(pictures > 20);
        assert!(attributes(&page, "alt").iter().all(|text| !text.is_empty()) && attributes(&page, "alt").len() == pictures);
        for name in ["data-map", "data-tile", "data-columns", "data-ranges"] {
            assert_eq!(attributes(&page, name).len(), pictures, "{name}");
        }
        let first = format!("5×{channels}×3×3");
        assert!(page.contains(&first) && page.contains("class=\"legend\""), "{first}");
    }
}

#[test]
fn parts_that_were_not_looked_at_are_left_out() {
    let model = model(1, TEXT, &["cat", "dog", "cow"]);
    let page = page(&gathered(&model, Vec::new(), None, &["conv2"]), Language::En);
    let ids = attributes(&page, "id");
    for absent in ["part/images", "part/fields", "part/statistics", "conv1", "conv2/maps"] {
        assert!(!ids.iter().any(|id| id == absent), "{absent}");
    }
    assert!(ids.contains(&"conv2/filters".to_owned()) && ids.contains(&"conv2/5".to_owned()));
}

#[test]
fn the_page_asks_for_nothing_from_outside() {
    let page = whole(3, Language::En);
    assert!(attributes(&page, "src").iter().all(|address| address.starts_with("data:image/png;base64,")));
    let inside = |address: &String| address.starts_with('#') || address == "data:," || address.starts_with("data:image/png;base64,");
    assert!(attributes(&page, "href").iter().all(inside));
    let policy = attributes(&page, "content").into_iter().find(|policy| policy.starts_with("default-src 'none'")).unwrap();
    assert!(!policy.contains("connect-src") && !policy.contains("http"), "{policy}");
    for forbidden in ["http:", "https:", "url(", "@import", "fetch(", "XMLHttpRequest", "<iframe", "eval("] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
}

#[test]
fn no_text_breaks_out_of_its_place() {
    const HOSTILE: &str = "</script></style><img src=x onerror=\"alert('1')\">&amp;<!-- {{ 7 }} ]]>";
    let kinds = |page: &str| {
        let mut kinds = Vec::new();
        elements(page, |name, element| {
            kinds.push(name.to_owned());
            assert!(element.attributes().all(|attribute| !attribute.unwrap().key.as_ref().starts_with(b"on")), "{element:?}");
        });
        kinds
    };
    let of = |word: &str| {
        let model = model(1, TEXT, &["cat", word, "cow"]);
        let mut image = image(1, word);
        image.label = Some(word.into());
        render(&gathered(&model, vec![image], None, &[]), word, &[word.to_owned()], Language::Ko).unwrap()
    };
    assert_eq!(kinds(&of(HOSTILE)), kinds(&of("dog")), "the same elements whatever the texts");
    assert!(!of(HOSTILE).contains("<img src=x"));
}

#[test]
fn the_languages_have_the_same_page_in_their_own_words() {
    let [english, korean] = Language::ALL.map(|language| whole(1, language));
    let ids = |page: &str| attributes(page, "id");
    assert_eq!(ids(&english), ids(&korean));
    assert!(english.contains("<html lang=\"en\">") && english.contains("Activation maps") && !english.contains("활성"));
    assert!(korean.contains("<html lang=\"ko\">") && korean.contains("활성 맵") && !korean.contains("Activation maps"));
    assert_eq!("ko".parse::<Language>().unwrap(), Language::Ko);
    assert!("kr".parse::<Language>().unwrap_err().to_string().contains("en and ko"));
}

#[test]
fn the_same_look_has_the_same_bytes() {
    assert!(whole(1, Language::En) == whole(1, Language::En));
}

#[test]
fn every_part_says_how_it_was_found() {
    let page = whole(1, Language::En);
    assert!(page.contains("mark sampled\" title") && page.contains("mark exact\" title"), "3 of 4 images were looked at");
    let model = model(1, TEXT, &["cat", "dog", "cow"]);
    let few = Split::new([1, 12, 10], vec![9; 120], vec![0]).unwrap();
    let all = self::page(&gathered(&model, Vec::new(), Some(&few), &[]), Language::En);
    assert!(!all.contains("mark sampled\" title"), "all images were looked at");
}

#[test]
fn numbers_that_are_not_finite_make_a_page_too() {
    let mut model = model(1, TEXT, &["cat", "dog", "cow"]);
    let network = model.network().clone();
    let broken = Parameters::build(&network, |index, spec| vec![if index == 0 { f32::NAN } else { f32::MAX }; spec.count()]).unwrap();
    model = Model::new(network, broken, model.classes().to_vec(), model.normalisation().clone()).unwrap();
    let split = split(1);
    let page = page(&gathered(&model, vec![image(1, "a")], Some(&split), &[]), Language::En);
    elements(&page, |_, _| {});
}

#[test]
fn what_was_searched_for_is_shown_beside_what_is_from_the_data() {
    let model = model(1, TEXT, &["cat", "dog", "cow"]);
    let split = split(1);
    let options = Options {
        images: vec![image(1, "a")],
        split: Some(&split),
        samples: 4,
        field_samples: 2,
        recipe: Some(Recipe { steps: 3, ..Recipe::default() }),
        neurons: 2,
        patches: 2,
        methods: Method::ALL.to_vec(),
        ..Options::new(Machine::detect().unwrap())
    };
    let contents = Contents::gather(&model, &options, |_| {}).unwrap();
    let page = self::page(&contents, Language::En);
    let ids = attributes(&page, "id");
    assert!(ids.contains(&"part/attribution".to_owned()) && ids.contains(&"conv2/5".to_owned()));
    assert_eq!(page.matches(">synthetic</span>").count(), 6, "two neurons of each of three layers");
    assert_eq!(page.matches(">from the data</span>").count(), 5 + 6 + 3);
    assert_eq!(attributes(&page, "alt").iter().filter(|text| text.contains("effective receptive field")).count(), 3);
    for method in ["Gradient × input", "Score-CAM", "Integrated gradients"] {
        assert!(page.contains(method), "{method}");
    }
    let curves = attributes(&page, "aria-label").into_iter().filter(|text| text.starts_with("Randomisation test")).count();
    let silent = page.matches("No evidence").count();
    assert_eq!(curves + silent, Method::ALL.len());
    assert_eq!(page.matches("Known to fail the randomisation test").count(), 2);
    assert_eq!(attributes(&page, "href").iter().filter(|link| *link == "#part/attribution").count(), 1);
}

#[test]
fn a_map_that_stays_alike_without_what_was_learnt_is_called_out() {
    let model = model(1, TEXT, &["cat", "dog", "cow"]);
    let options = Options { images: vec![image(1, "a")], methods: vec![Method::Gradient], ..Options::new(Machine::detect().unwrap()) };
    let mut contents = Contents::gather(&model, &options, |_| {}).unwrap();
    let mut warned = |correlation: f64| {
        contents.images[0].attributions[0].randomisation.as_mut().unwrap().stages.last_mut().unwrap().correlation = Some(correlation);
        page(&contents, Language::En).contains("Fails the randomisation test here")
    };
    assert_eq!([0.1, -0.2, 0.31, -0.9].map(&mut warned), [false, false, true, true]);
}

#[test]
fn a_card_shows_the_opposite_and_diverse_images_and_a_run_its_filmstrip() {
    let folder = tempfile::tempdir().unwrap();
    let network = Network::parse("input 1x12x10 -> conv 3 3x3 -> relu -> conv 4 3x3 -> relu -> flatten -> fc 3").unwrap();
    let classes = ["cat", "dog", "cow"].map(str::to_owned).to_vec();
    let data = Dataset::new(split(1), split(1), classes).unwrap();
    let model = Trainer::new(&network).epochs(2).batch(2).look_every(1).folder(folder.path()).fit(&data).unwrap().model;
    let options = Options {
        recipe: Some(Recipe { steps: 2, ..Recipe::default() }),
        neurons: 2,
        negative: true,
        copies: 3,
        run: Some(folder.path().to_owned()),
        ..Options::new(Machine::detect().unwrap())
    };
    let contents = Contents::gather(&model, &options, |_| {}).unwrap();
    let layer = &contents.synthetic[1];
    assert_eq!((layer.atlas.images.len(), layer.negative.len(), layer.diverse.len()), (2, 2, 6));
    assert_eq!(contents.frames.iter().map(|frame| frame.epoch).collect::<Vec<_>>(), [0, 1, 2]);

    let page = self::page(&contents, Language::En);
    let alts = attributes(&page, "alt");
    let with = |words: &str| alts.iter().filter(|alt| alt.contains(words)).count();
    assert_eq!((with("makes neuron"), with("3 synthetic images for neuron")), (6, 6), "two neurons of each of three layers");
    assert_eq!((with("The filters of conv1, epoch"), with("The filters of conv1, before")), (2, 1));
    assert_eq!((with("A synthetic image for conv2/3, epoch 2"), with("A synthetic image for cow, before")), (1, 1));
    let ids = attributes(&page, "id");
    let links = attributes(&page, "href").into_iter().filter_map(|link| Some(link.strip_prefix('#')?.to_owned()));
    assert!(links.into_iter().all(|link| ids.contains(&link)));
}

#[test]
fn every_mistake_is_counted_and_the_worst_are_shown() {
    let page = whole(1, Language::En);
    let model = model(1, TEXT, &["cat", "dog", "cow"]);
    let split = split(1);
    let found = gathered(&model, Vec::new(), Some(&split), &[]).mistakes.unwrap();
    let ids = attributes(&page, "id");
    assert!(!found.pairs.is_empty(), "a network that was never trained is wrong somewhere");
    let links = attributes(&page, "href");
    for pair in &found.pairs {
        let id = format!("part/mistakes/{}-{}", pair.label, pair.predicted);
        assert!(ids.contains(&id) && links.contains(&format!("#{id}")), "{id}");
    }
    let wrong: usize = found.pairs.iter().map(|pair| pair.worst.len()).sum();
    let alternatives = attributes(&page, "alt");
    assert_eq!(alternatives.iter().filter(|text| text.starts_with("The image test:") && text.contains(" called ")).count(), wrong);
    let labels = attributes(&page, "aria-label");
    assert_eq!(labels.iter().filter(|text| text.starts_with("Curves of")).count(), 3);
    assert_eq!(labels.iter().filter(|text| text.starts_with("Calibration curve")).count(), 1);
    let numbers = serde_json::to_value(&found).unwrap();
    assert_eq!(numbers["pairs"][0]["worst"][0]["sample"], found.pairs[0].worst[0].mistake.sample);
    assert!(numbers["calibration"]["ece"].is_f64() && numbers.get("confusion").is_none());
}

#[test]
fn the_mistakes_of_many_classes_fit_on_the_page() {
    let names: Vec<String> = (0..200).map(|class| format!("class {class}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let model = model(1, &TEXT.replace("fc 3", "fc 200"), &names);
    let pixels = (0..60 * 120).map(|pixel| (pixel * 53 % 256) as u8).collect();
    let split = Split::new([1, 12, 10], pixels, (0..60).map(|image| image * 3).collect()).unwrap();
    let options = Options { layers: vec!["conv2".into()], split: Some(&split), ..Options::new(Machine::detect().unwrap()) };
    let page = page(&Contents::gather(&model, &options, |_| {}).unwrap(), Language::Ko);
    assert!(page.contains("그 밖의 모든 것") && page.contains("클래스 200개 중"), "what is left out is said");
    assert!(page.len() < 1 << 20, "{} bytes", page.len());
}

#[test]
fn codes_are_shown_as_maps_images_neighbours_inversions_and_similarities() {
    let (model, other) = (model(3, TEXT, &["cat", "dog", "c|w"]), model(3, "conv 4 3x3 -> relu -> flatten -> fc 3", &["a", "b", "c"]));
    let split = Split::new([3, 12, 10], (0..9 * 360).map(|pixel| (pixel * pixel % 251) as u8).collect(), vec![0, 1, 2, 0, 1, 2, 0, 1, 2]);
    let split = split.unwrap();
    let mut image = image(3, "a.png");
    image.bytes = split.image(4).to_vec();
    let asked = Asked {
        layer: Some("relu2".into()),
        invert: vec!["conv1".into(), "fc1".into()],
        inversion: InversionRecipe { steps: 3, ..InversionRecipe::default() },
        similarity: 50,
        compare: Some(&other),
    };
    let options = Options { images: vec![image], split: Some(&split), codes: asked, ..Options::new(Machine::detect().unwrap()) };
    let contents = Contents::gather(&model, &options, |_| {}).unwrap();
    let found = contents.codes.codes.as_ref().unwrap();
    assert_eq!((found.images.len(), found.grid.side, found.neighbours[0].cosine.len()), (9, 3, 6));
    assert!(found.neighbours[0].pixels.iter().all(|near| near.image != 4 && near.distance > 0.0), "the image itself is left out");
    let similar = contents.codes.similarity.as_ref().unwrap();
    assert_eq!((similar.images, similar.rows.len(), similar.debiased.len()), (9, 7, 49), "the flatten is left out");
    assert_eq!(contents.codes.comparison.as_ref().unwrap().columns, ["conv1", "relu1", "fc1"]);
    for language in Language::ALL {
        let page = self::page(&contents, language);
        let ids = attributes(&page, "id");
        for id in ["part/codes", "part/inversion", "part/similarity", "part/comparison"] {
            assert!(ids.contains(&id.to_owned()), "{id}");
            assert!(attributes(&page, "href").contains(&format!("#{id}")), "{id} is in the list of parts");
        }
        let words = attributes(&page, "data-words");
        assert!(words.iter().any(|words| words.matches('|').count() == 8 && words.contains("c/w · ")), "names of nine images: {words:?}");
        elements(&page, |_, _| {});
    }
    let english = self::page(&contents, Language::En);
    assert_eq!(attributes(&english, "alt").iter().filter(|alt| alt.starts_with("A synthetic image with the code")).count(), 2);
    assert!(english.contains("Trustworthiness 0.") || english.contains("Trustworthiness 1"), "it stands beside both maps");
    let folder = tempfile::tempdir().unwrap();
    let files = crate::look::folder::write(&contents, folder.path(), "A model", &[], Language::En).unwrap();
    for file in ["codes/grid.png", "inversion/0-a.png", "similarity/layers.png", "similarity/networks.png"] {
        assert!(files.iter().any(|found| found == std::path::Path::new(file)) && folder.path().join(file).is_file(), "{file}");
    }
}

#[test]
fn what_is_seen_of_codes_does_not_depend_on_the_threads() {
    let model = model(1, TEXT, &["cat", "dog", "cow"]);
    let split = Split::new([1, 12, 10], (0..30 * 120).map(|pixel| (pixel * pixel % 241) as u8).collect(), vec![1; 30]).unwrap();
    let of = |threads: usize| {
        let asked = Asked {
            layer: Some("flatten1".into()),
            invert: vec!["relu1".into()],
            inversion: InversionRecipe { steps: 5, ..InversionRecipe::default() },
            similarity: 20,
            compare: None,
        };
        let machine = Machine::new(convnet_kernels::Isa::detect(), threads);
        let options = Options { images: vec![image(1, "a")], split: Some(&split), codes: asked, ..Options::new(machine) };
        serde_json::to_string(&Contents::gather(&model, &options, |_| {}).unwrap().codes).unwrap()
    };
    let one = of(1);
    assert!(one.contains("trustworthiness") && one.contains("debiased"));
    assert!(of(2) == one && of(3) == one);
}

#[test]
fn a_network_that_sees_other_images_cannot_be_compared() {
    let (model, other) = (model(1, TEXT, &["a", "b", "c"]), model(3, TEXT, &["a", "b", "c"]));
    let split = split(1);
    let codes = Asked { compare: Some(&other), ..Asked::default() };
    let options = Options { split: Some(&split), codes, ..Options::new(Machine::detect().unwrap()) };
    let error = Contents::gather(&model, &options, |_| {}).unwrap_err().to_string();
    assert!(error.contains("[3, 12, 10]") && error.contains("[1, 12, 10]"), "{error}");
}

#[test]
fn the_best_patch_is_drawn_in_its_image_and_images_are_changed_for_layers() {
    let model = model(3, TEXT, &["cat", "dog", "cow"]);
    let split = split(3);
    let mut options = Options {
        images: vec![image(3, "a.png"), image(3, "b.png")],
        split: Some(&split),
        patches: 2,
        dream: vec!["conv2".into(), "relu1".into()],
        recipe: Some(Recipe { steps: 2, ..Recipe::pixels() }),
        neurons: 2,
        each: PerChannel::Neuron(Some([1, 0])),
        layers: vec!["conv1".into(), "conv2".into()],
        ..Options::new(Machine::detect().unwrap())
    };
    let contents = Contents::gather(&model, &options, |_| {}).unwrap();
    for (language, words) in [(Language::En, "the neuron at row 1, column 0, on pixels with decay"), (Language::Ko, "1행 0열")] {
        let page = self::page(&contents, language);
        elements(&page, |_, _| {});
        assert_eq!(page.matches("class=\"framed inside\"").count(), 5 + 6, "every channel of both convolutions");
        assert!(page.contains(words), "{words}");
        assert!(attributes(&page, "href").contains(&"#part/dreams".to_owned()));
    }
    let page = self::page(&contents, Language::En);
    assert_eq!(attributes(&page, "alt").iter().filter(|alt| alt.contains(", changed for ")).count(), 4);
    let folder = tempfile::tempdir().unwrap();
    let files = crate::look::folder::write(&contents, folder.path(), "A model", &[], Language::En).unwrap();
    for file in ["patches/conv1.png", "patches/conv2-in-images.png", "dream/0-a.png", "dream/1-b.png"] {
        assert!(files.iter().any(|found| found == std::path::Path::new(file)), "{file}");
    }
    options.each = PerChannel::Neuron(Some([9, 9]));
    assert!(Contents::gather(&model, &options, |_| {}).unwrap_err().to_string().contains("no place 9,9"));
}

#[test]
fn of_networks_with_many_neurons_only_those_that_images_are_made_for_have_a_card() {
    let many = model(1, "conv 400 3x3 -> relu -> conv 300 1x1 -> relu -> global avgpool -> flatten -> fc 3", &["a", "b", "c"]);
    let few = model(1, TEXT, &["a", "b", "c"]);
    let cards = |model: &Model, neurons: usize| {
        let options = Options { neurons, ..Options::new(Machine::detect().unwrap()) };
        let page = page(&Contents::gather(model, &options, |_| {}).unwrap(), Language::En);
        attributes(&page, "id").iter().filter(|id| id.starts_with("conv1/") && id[6..].parse::<usize>().is_ok()).count()
    };
    // 64 of each layer at most, so ten layers of that many are many.
    let deep = "conv 64 1x1 -> ".repeat(10) + "global avgpool -> flatten -> fc 3";
    let deep = model(1, &deep, &["a", "b", "c"]);
    assert_eq!((cards(&many, 8), cards(&few, 2), cards(&deep, 8), cards(&deep, 100)), (64, 5, 8, 64));
}
