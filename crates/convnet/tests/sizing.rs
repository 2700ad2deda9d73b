//! Sizes, parameters, work, memory and receptive fields against the numbers of the literature and of Stanford's course
//! CS231n, and the traps in them.

use convnet::layer::single::Single;
use convnet::layer::{Layer, LayerRules};
use convnet::network::text::TextArguments;
use convnet::network::{LayerSummary, MemoryUse, Network, NodeId, Solve, Summary};
use convnet::zoo;

const VGG16: &str = "input 3x224x224
[conv 64 3x3 pad 1 -> relu]*2 -> maxpool 2
[conv 128 3x3 pad 1 -> relu]*2 -> maxpool 2
[conv 256 3x3 pad 1 -> relu]*3 -> maxpool 2
[conv 512 3x3 pad 1 -> relu]*3 -> maxpool 2
[conv 512 3x3 pad 1 -> relu]*3 -> maxpool 2
flatten -> [fc 4096 -> relu -> dropout 0.5]*2 -> fc 1000";

const CONVNETJS: &str = "input 3x32x32
conv 16 5x5 pad 2 -> relu -> maxpool 2
[conv 20 5x5 pad 2 -> relu -> maxpool 2]*2
flatten -> fc 10 -> softmax";

const LENET: &str = "input 1x32x32
conv 6 5x5 -> tanh -> avgpool 2 stride 2
conv 16 5x5 -> tanh -> avgpool 2 stride 2
conv 120 5x5 -> tanh -> flatten -> fc 84 -> tanh -> fc 10";

fn network(text: &str) -> Network {
    Network::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn summary(text: &str) -> Summary {
    network(text).summary()
}

/// The only layer behind an input.
fn layer(input: &str, text: &str) -> LayerSummary {
    let summary = summary(&format!("input {input} -> {text}"));
    assert_eq!(summary.layers.len(), 1);
    summary.layers[0].clone()
}

fn of_kind<'a>(summary: &'a Summary, kind: &'a str) -> impl Iterator<Item = &'a LayerSummary> {
    summary.layers.iter().filter(move |layer| layer.kind == kind)
}

fn numbers(layer: &LayerSummary) -> usize {
    layer.output.iter().product()
}

// The quiz, and parameters.

#[test]
fn the_quiz_has_760_parameters_750_of_them_weights() {
    let conv = layer("3x32x32", "conv 10 5x5 pad 2");
    assert_eq!(conv.output, [10, 32, 32]);
    assert_eq!((conv.weights, conv.biases, conv.parameters), (750, 10, 760));
    assert_eq!(conv.formula.as_deref(), Some("(5·5·3 + 1)·10"));
    assert_eq!((conv.macs, conv.flops), (768_000, 1_536_000));
    assert_eq!(conv.activation_bytes, 10 * 32 * 32 * 4);
    // 76 is one filter's share, and each of the ten has its own bias.
    assert_eq!(layer("3x32x32", "conv 1 5x5 pad 2").parameters, 76);
    assert_eq!(layer("3x32x32", "conv 10 5x5 pad 2 no bias").parameters, 750);
    // Additions of biases would add one in 75 to the work; they are not counted.
    assert_eq!(conv.macs / 75, 10 * 32 * 32);
}

#[test]
fn padding_is_zero_unless_said_and_counts_for_each_side() {
    assert_eq!(layer("3x32x32", "conv 10 5x5").output, [10, 28, 28]);
    assert_eq!(layer("3x32x32", "conv 10 5x5 pad 1").output, [10, 30, 30]);
    assert_eq!(layer("3x32x32", "conv 10 5x5 pad 2").output, [10, 32, 32]);
    assert_eq!(layer("3x32x32", "conv 10 5x5 pad 0,4,0,4").output, [10, 32, 32]);
}

#[test]
fn images_shrink_without_padding() {
    let sides: Vec<usize> = summary("input 3x32x32 -> [conv 6 5x5]*3").layers.iter().map(|layer| layer.output[1]).collect();
    assert_eq!(sides, [28, 24, 20]);
}

#[test]
fn a_fully_connected_layer_has_a_weight_for_every_number_it_sees_and_a_bias() {
    let fc = |input: &str, outputs: usize| summary(&format!("input {input} -> flatten -> fc {outputs}")).layers[1].clone();
    assert_eq!(fc("3x32x32", 1).weights, 3072);
    assert_eq!(fc("3x200x200", 1).weights, 120_000);
    let ten = fc("3x32x32", 10);
    assert_eq!((ten.output, ten.weights, ten.biases), ([10, 1, 1], 30_720, 10));
    assert_eq!(ten.formula.as_deref(), Some("(3072 + 1)·10"));
    assert_eq!(ten.macs, 30_720);
}

#[test]
fn sharing_weights_saves_alexnets_first_layer_all_but_a_3000th() {
    let conv = layer("3x227x227", "conv 96 11x11 stride 4");
    assert_eq!(conv.output, [96, 55, 55]);
    assert_eq!((conv.weights, conv.biases, conv.parameters), (34_848, 96, 34_944));
    let neurons = numbers(&conv) as u64;
    assert_eq!((neurons, neurons * (11 * 11 * 3 + 1)), (290_400, 105_705_600));
    // As a matrix product: 96 × 363 times 363 × 3025.
    assert_eq!(conv.macs, 96 * 363 * 3025);
}

#[test]
fn three_windows_of_3_need_27_parts_of_weights_where_one_of_7_needs_49() {
    let (stack, single) = (summary("input 8x32x32 -> [conv 8 3x3 pad 1 no bias -> relu]*3"), layer("8x32x32", "conv 8 7x7 pad 3 no bias"));
    assert_eq!((stack.totals.parameters, single.parameters), (27 * 64, 49 * 64));
    assert_eq!(stack.layers[4].receptive_field, single.receptive_field);
}

#[test]
fn a_pointwise_convolution_takes_a_dot_product_through_the_channels() {
    let conv = layer("64x56x56", "conv 32 1x1");
    assert_eq!((conv.output, conv.macs), ([32, 56, 56], 56 * 56 * 32 * 64));
    assert_eq!(conv.formula.as_deref(), Some("(1·1·64 + 1)·32"));
}

#[test]
fn groups_divide_weights_and_work() {
    let depthwise = layer("32x16x16", "conv 32 3x3 pad 1 groups 32 no bias");
    assert_eq!((depthwise.weights, depthwise.macs), (9 * 32, 9 * 32 * 256));
}

#[test]
fn scales_are_weights_shifts_are_biases_and_running_statistics_are_neither() {
    let summary = summary("input 3x8x8 -> conv 16 3x3 no bias -> bn");
    let norm = &summary.layers[1];
    assert_eq!((norm.weights, norm.biases, norm.parameters, norm.buffers, norm.macs), (16, 16, 32, 32, 0));
    assert_eq!(summary.totals.parameters, 27 * 16 + 32);
}

// Known networks.

#[test]
fn vgg16_has_its_published_numbers() {
    let summary = summary(VGG16);
    let totals = &summary.totals;
    assert_eq!((totals.weights, totals.biases, totals.parameters), (138_344_128, 13_416, 138_357_544));
    assert_eq!((totals.macs, totals.flops), (15_470_264_320, 30_940_528_640));
    assert_eq!(of_kind(&summary, "conv").map(numbers).sum::<usize>(), 13_547_520);
    assert_eq!(summary.layers.last().unwrap().output, [1000, 1, 1]);
    assert_eq!(summary.warnings, [""; 0]);
}

#[test]
fn vgg16_keeps_15_million_activations_not_the_24_million_of_the_course() {
    let totals = summary(VGG16).totals;
    assert_eq!(totals.activation_bytes, 4 * 15_237_608);
    assert_eq!(format!("{:.2}", totals.activation_bytes as f64 / (1 << 20) as f64), "58.13");
    // Three layers of 64 maps of 224×224 with their gradients: the course's 72 MB are right.
    let three = summary("input 64x224x224 -> [conv 64 3x3 pad 1]*3");
    let numbers: usize = three.layers.iter().map(numbers).sum();
    assert_eq!(numbers, 9_633_792);
    assert_eq!(format!("{:.1}", (numbers * 4 * 2) as f64 / (1 << 20) as f64), "73.5");
}

#[test]
fn vgg16_sees_212_pixels_at_its_last_pooling() {
    let summary = summary(VGG16);
    let spatial: Vec<u64> = summary
        .layers
        .iter()
        .filter(|layer| matches!(layer.kind.as_str(), "conv" | "maxpool"))
        .map(|layer| layer.receptive_field[1])
        .collect();
    assert_eq!(spatial, [3, 5, 6, 10, 14, 16, 24, 32, 40, 44, 60, 76, 92, 100, 132, 164, 196, 212]);
    let pool = summary.layer("maxpool5").unwrap();
    assert_eq!((pool.jump, pool.start), ([32, 32], [-90, -90]));
    assert_eq!(summary.layers.last().unwrap().receptive_field, [224, 224]);
}

#[test]
fn convnetjs_network_for_cifar_has_22466_parameters() {
    let summary = summary(CONVNETJS);
    let parts: Vec<u64> = summary.layers.iter().map(|layer| layer.parameters).filter(|&parameters| parameters > 0).collect();
    assert_eq!(parts, [1216, 8020, 10_020, 3210]);
    assert_eq!((summary.totals.parameters, summary.totals.macs), (22_466, 3_920_000));
}

#[test]
fn alexnet_sees_195_pixels() {
    let summary = summary(
        "input 3x224x224
        conv 64 11x11 stride 4 -> maxpool 3 stride 2
        conv 192 5x5 pad 2 -> maxpool 3 stride 2
        [conv 384 3x3 pad 1]*2 -> conv 256 3x3 pad 1 -> maxpool 3 stride 2",
    );
    let listed: Vec<_> = ["conv1", "maxpool1", "conv2", "conv3", "conv4", "conv5", "maxpool3"]
        .map(|name| summary.layer(name).unwrap())
        .map(|layer| (layer.receptive_field[0], layer.jump[0], -layer.start[0]))
        .into();
    assert_eq!(listed, [(11, 4, 0), (19, 8, 0), (51, 8, 16), (99, 16, 32), (131, 16, 48), (163, 16, 64), (195, 32, 64)]);
}

#[test]
fn fully_connected_layers_as_convolutions_slide_over_larger_images() {
    let head = "conv 4096 7x7 -> relu -> conv 4096 1x1 -> relu -> conv 1000 1x1";
    let body = VGG16.split("flatten").next().unwrap();
    let at = |side: usize| summary(&format!("{}{head}", body.replace("224x224", &format!("{side}x{side}"))));
    let (small, large) = (at(224), at(384));
    assert_eq!((small.totals.parameters, large.totals.parameters), (138_357_544, 138_357_544));
    assert_eq!((small.layers.last().unwrap().output, large.layers.last().unwrap().output), ([1000, 1, 1], [1000, 6, 6]));
    assert_eq!(large.layers.last().unwrap().jump, [32, 32]);
}

#[test]
fn a_stride_in_place_of_a_pooling_saves_three_quarters_of_the_work_and_no_parameters() {
    let pooled = summary("input 64x32x32 -> conv 64 3x3 pad 1 -> maxpool 2");
    let strided = summary("input 64x32x32 -> conv 64 3x3 stride 2 pad 1");
    assert_eq!(pooled.totals.parameters, strided.totals.parameters);
    assert_eq!(pooled.totals.macs, 4 * strided.totals.macs);
    assert_eq!(pooled.layers[1].output, strided.layers[0].output);
}

#[test]
fn networks_of_the_zoo_see_what_is_published_of_them() {
    let listed = [
        ("alexnet", 195, 32),
        ("vgg16", 212, 32),
        ("mobilenet_v1", 315, 32),
        ("resnet18", 435, 32),
        // 483 is TensorFlow's ResNet-50, which strides in the last block of a stage instead of the first.
        ("resnet50", 427, 32),
    ];
    for (name, size, jump) in listed {
        let summary = zoo::network(name, &TextArguments::default()).unwrap().summary();
        let last = summary.layers.iter().rfind(|layer| !layer.sees_whole).unwrap();
        assert_eq!((last.receptive_field, last.jump), ([size, size], [jump, jump]), "{name}");
        assert_eq!(summary.layers.last().unwrap().receptive_field, [224, 224], "{name}");
    }
}

#[test]
fn every_network_of_the_zoo_has_a_page_no_wider_than_a_terminal_and_fits_its_image() {
    for name in zoo::NAMES {
        let summary = zoo::network(name, &TextArguments::default()).unwrap().summary_for(64);
        let widest = summary.to_string().lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= 120, "{name}: {widest}");
        // SqueezeNet 1.1 leaves out the last row and column of its images by design, and with its pools rounded down those of two maps.
        let expected = match *name {
            "squeezenet1_1" => 1,
            "squeezenet1_1_same" => 3,
            _ => 0,
        };
        assert_eq!(summary.warnings.len(), expected, "{name}: {:?}", summary.warnings);
        for total in [summary.totals.weights + summary.totals.biases, summary.layers.iter().map(|layer| layer.parameters).sum()] {
            assert_eq!(total, summary.totals.parameters, "{name}");
        }
        let shares: f64 = summary.layers.iter().map(|layer| layer.macs_percent).sum();
        assert!((shares - 100.0).abs() < 1e-6, "{name}: {shares}");
    }
}

// Sizes that do not fit.

#[test]
fn what_the_course_calls_invalid_is_rounded_down_with_a_warning_or_refused_when_strict() {
    let text = "input 3x10x10 -> conv 4 3x3 stride 2";
    let rounded = summary(text);
    assert_eq!(rounded.layers[0].output, [4, 4, 4]);
    assert!(
        rounded.warnings[0].starts_with("conv1: the last row and column are never seen: (10 − 3 + 2·0)/2 + 1 = 4.5"),
        "{:?}",
        rounded.warnings
    );
    let strict = TextArguments { strict: true, ..TextArguments::default() };
    let error = Network::parse_with(text, &strict).unwrap_err().to_string();
    assert!(error.contains("4.5"), "{error}");
    assert!(Network::parse_with("input 3x11x11 -> conv 4 3x3 stride 2", &strict).is_ok());
}

#[test]
fn the_slide_of_strides_says_which_does_not_fit() {
    let fits = |stride: usize| {
        let solved = network(&format!("input 3x7x7 -> conv 1 3x3 stride {stride}")).solve("conv1", Solve::Stride).unwrap();
        (solved.axes[0].present.output, solved.axes[0].fits)
    };
    assert_eq!([fits(1), fits(2), fits(3)], [(5, true), (3, true), (2, false)]);
}

#[test]
fn pooling_rounds_down_and_says_so_unless_asked_to_round_up() {
    let (floor, ceil) = (summary("input 4x7x7 -> maxpool 2"), summary("input 4x7x7 -> maxpool 2 ceil"));
    assert_eq!((floor.layers[0].output, ceil.layers[0].output), ([4, 3, 3], [4, 4, 4]));
    assert!(floor.warnings[0].contains("the last row and column are never seen"), "{:?}", floor.warnings);
    assert_eq!(ceil.warnings, [""; 0]);
    // The usual pooling keeps exactly a quarter, the overlapping one fits sides of 2n + 1.
    assert_eq!(layer("4x8x8", "maxpool 2").output, [4, 4, 4]);
    assert_eq!(layer("4x55x55", "maxpool 3 stride 2").output, [4, 27, 27]);
    assert_eq!(layer("4x8x8", "maxpool 3 stride 2 pad 1").output, [4, 4, 4]);
}

#[test]
fn two_images_differ_by_what_rounding_loses() {
    let alexnet = |side: usize| summary(&format!("input 3x{side}x{side} -> conv 96 11x11 stride 4"));
    assert_eq!((alexnet(227).warnings.len(), alexnet(224).layers[0].output), (0, [96, 54, 54]));
    let warnings = alexnet(224).warnings;
    assert!(warnings.len() == 1 && warnings[0].contains("= 54.25"), "{warnings:?}");
    // Behind another layer, the loss is also told in pixels of the image.
    let warnings = summary("input 3x224x224 -> maxpool 2 -> conv 96 11x11 stride 4").warnings;
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    let end = "rows 222 to 223 and columns 222 to 223 of the image (counted from 0) reach no output; an image of 3x222x222 loses nothing";
    assert_eq!(warnings[1], end);
}

#[test]
fn a_corner_is_seen_by_one_window_where_a_pixel_inside_is_seen_by_nine() {
    let counts = |text: &str, y: usize, x: usize| {
        let network = network(text);
        let shape = network.output_shape();
        let sees = |oy, ox| {
            let region = network.region(network.output(), oy, ox).unwrap();
            region.rows.contains(&y) && region.columns.contains(&x)
        };
        (0..shape.h).flat_map(|oy| (0..shape.w).map(move |ox| (oy, ox))).filter(|&(oy, ox)| sees(oy, ox)).count()
    };
    let (valid, padded) = ("input 1x8x8 -> conv 1 3x3", "input 1x8x8 -> conv 1 3x3 pad 1");
    assert_eq!([counts(valid, 0, 0), counts(valid, 0, 4), counts(valid, 4, 4)], [1, 3, 9]);
    assert_eq!([counts(padded, 0, 0), counts(padded, 0, 4), counts(padded, 4, 4)], [4, 6, 9]);
}

#[test]
fn torchs_argument_order_is_width_first() {
    let conv = layer("3x32x32", "nn.SpatialConvolution(3, 64, 5, 3, 2, 1, 2, 0)");
    assert_eq!(conv.output, [64, 30, 16]);
    assert_eq!((conv.receptive_field, conv.jump, conv.start), ([3, 5], [1, 2], [0, -2]));
}

// What a convolution is.

/// The output of one layer in `f64`.
fn run(input: &str, text: &str, image: Vec<f64>, parameters: &[Vec<f64>]) -> Vec<f64> {
    let network = network(&format!("input {input} -> {text}"));
    let node = &network.nodes()[0];
    Single::<f64>::new(node.layer().clone(), node.input_shapes(), false).unwrap().forward(&[image], parameters)
}

fn spread(count: usize) -> Vec<f64> {
    (0..count).map(|place| ((place * 37 % 101) as f64 - 50.0) / 16.0).collect()
}

#[test]
fn true_convolution_is_the_layer_with_its_filter_turned_around() {
    let [channels, h, w, rows, columns] = [2, 6, 7, 3, 4];
    let (image, filter) = (spread(channels * h * w), spread(channels * rows * columns));
    // (f ∗ g)[y, x] = Σ f[r, s]·g[y − r, x − s]: where the whole filter lies inside the image.
    let convolved = (rows - 1..h).flat_map(|y| (columns - 1..w).map(move |x| (y, x))).map(|(y, x)| {
        let terms = (0..filter.len()).map(|place| {
            let (c, r, s) = (place / (rows * columns), place / columns % rows, place % columns);
            filter[place] * image[(c * h + y - r) * w + x - s]
        });
        terms.sum::<f64>() + 0.5
    });
    let convolved: Vec<f64> = convolved.collect();
    let turned: Vec<f64> = filter.chunks(rows * columns).flat_map(|channel| channel.iter().rev().copied()).collect();
    let of = |filter: Vec<f64>| run("2x6x7", "conv 1 3x4", image.clone(), &[filter, vec![0.5]]);
    assert_eq!(of(turned), convolved);
    assert_ne!(of(filter.clone()), convolved);
}

#[test]
fn the_one_dimensional_picture_of_the_course_holds() {
    let (image, parameters) = (vec![1.0, 2.0, -1.0, 1.0, -3.0], [vec![1.0, 0.0, -1.0], vec![0.0]]);
    assert_eq!(run("1x1x5", "conv 1 1x3 pad 0x1", image.clone(), &parameters), [-2.0, 2.0, 1.0, 2.0, 1.0]);
    assert_eq!(run("1x1x5", "conv 1 1x3 stride 2 pad 0x1", image, &parameters), [-2.0, 1.0, 1.0]);
}

#[test]
fn one_output_number_is_one_window_through_all_channels_plus_the_bias() {
    // 11×11×4 and two filters of 5×5 with stride 2: the course indexes V[x, y, filter].
    let (image, filters) = (spread(4 * 11 * 11), spread(2 * 4 * 5 * 5));
    let output = run("4x11x11", "conv 2 5x5 stride 2", image.clone(), &[filters.clone(), vec![0.25, -0.5]]);
    assert_eq!(output.len(), 2 * 4 * 4);
    let (y, x) = (3, 2);
    let products = (0..4 * 5 * 5).map(|place| {
        let (c, r, s) = (place / 25, place / 5 % 5, place % 5);
        filters[100 + place] * image[(c * 11 + 2 * y + r) * 11 + 2 * x + s]
    });
    assert_eq!(output[(4 + y) * 4 + x], products.sum::<f64>() - 0.5);
}

#[test]
fn pooling_pads_with_nothing_and_not_with_zeros() {
    assert_eq!(run("1x2x2", "maxpool 2 pad 1", vec![-1.0, -2.0, -3.0, -4.0], &[]), [-1.0, -2.0, -3.0, -4.0]);
    let image = [1, 1, 2, 4, 5, 6, 7, 8, 3, 2, 1, 0, 1, 2, 3, 4].map(f64::from).to_vec();
    assert_eq!(run("1x4x4", "maxpool 2", image, &[]), [6.0, 8.0, 3.0, 4.0]);
}

#[test]
fn flatten_keeps_the_order_channel_row_column() {
    assert_eq!(run("2x2x3", "flatten", spread(12), &[]), spread(12));
}

// The page and the JSON.

#[test]
fn the_page_of_a_small_network_reads_well() {
    let used = MemoryUse { parameters: 51_064, prepared: 53_760, gradients: 51_064, optimizer: 51_064, activations: 1 << 20 };
    let network = network("input 1x28x30 -> conv 6 5x5 pad 2 -> relu -> maxpool 2 -> flatten -> fc 10");
    let summary = network.summary_for(32).with_memory(MemoryUse { gradients: 0, optimizer: 0, activations: 1 << 18, ..used }, used);
    assert_eq!(
        summary.to_string(),
        "\
layer     settings     output    formula        parameters    %     MACs    FLOPs    %     KiB  field  jump
───────────────────────────────────────────────────────────────────────────────────────────────────────────
input                  1x28x30                                                          105.00      1     1
conv1     6 5x5 pad 2  6x28x30   (5·5·1 + 1)·6         156  1.2  126,000  252,000 90.9  630.00      5     1
relu1                  6x28x30                                                               ″      5     1
maxpool1  2            6x14x15                                                          157.50      6     2
flatten1               1260x1x1                                                              ″    all     –
fc1       10           10x1x1    (1260 + 1)·10      12,610 98.8   12,600   25,200  9.1    1.25    all     –
───────────────────────────────────────────────────────────────────────────────────────────────────────────
total                                               12,766       138,600  277,200       893.75

parameters   12,766 = 12,750 weights + 16 biases, 49.87 KiB
MACs         138,600 for one image; FLOPs = 2·MACs = 277,200
activations  228,800 numbers for a batch of 32 images, 893.75 KiB: the image and every output once (″: lies where its
             input lies)
inference    358.37 KiB for a batch of 32 images = parameters 49.87 KiB + packed weights 52.50 KiB +
             activations 256.00 KiB
training     1.20 MiB for a batch of 32 images = parameters 49.87 KiB + packed weights 52.50 KiB + gradients 49.87 KiB +
             optimiser state 49.87 KiB + activations 1.00 MiB
columns      output: channels x height x width; KiB: its size for a batch of 32 images; field, jump: receptive field and
             effective stride in pixels of the image, padding included; %: share of all parameters, of all MACs
"
    );
}

#[test]
fn the_page_of_vgg16_is_no_wider_than_a_terminal() {
    let summary = summary(VGG16);
    for width in [100, 110, 120] {
        let page = summary.to_text(width);
        let widest = page.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= width, "{widest} > {width}:\n{page}");
        for number in ["138,357,544 = 138,344,128 weights + 13,416 biases", "15,470,264,320", "15.47 G", "58.13 MiB", "102,764,544", "212"]
        {
            assert!(page.contains(number), "{number} is missing:\n{page}");
        }
    }
}

#[test]
fn the_json_has_the_numbers_of_the_table() {
    let used = MemoryUse { parameters: 3040, activations: 1000, ..MemoryUse::default() };
    let summary = network("input 3x32x32 -> conv 10 5x5 pad 2").summary_for(4).with_memory(used, MemoryUse { gradients: 3040, ..used });
    let json = serde_json::to_value(&summary).unwrap();
    assert_eq!(json["input"], serde_json::json!([3, 32, 32]));
    let layer = serde_json::json!({
        "name": "conv1", "kind": "conv", "output": [10, 32, 32], "weights": 750, "biases": 10, "parameters": 760,
        "formula": "(5·5·3 + 1)·10", "macs": 768_000, "flops": 1_536_000, "activation_bytes": 163_840,
        "receptive_field": [5, 5], "jump": [1, 1],
    });
    let totals = serde_json::json!({
        "weights": 750, "biases": 10, "parameters": 760, "macs": 768_000, "flops": 1_536_000, "inference_bytes": 4040, "training_bytes": 7080,
    });
    for (found, expected) in [(&json["layers"][0], layer), (&json["totals"], totals)] {
        for (key, value) in expected.as_object().unwrap() {
            assert_eq!(&found[key], value, "{key}");
        }
    }
    assert_eq!(json["warnings"], serde_json::json!([]));
}

#[test]
fn absurd_networks_are_summarised_without_overflow() {
    let layers: Vec<String> = (0..60).map(|_| "conv 1 1x1 stride 4294967295 no bias".to_owned()).collect();
    let summary = summary(&format!("input 1x1x1 -> {}", layers.join(" -> ")));
    assert_eq!(summary.layers[59].jump, [u64::MAX; 2]);
    assert!(!summary.to_text(80).is_empty());
    let wide = network("input 1x1x1000000000000 -> conv 1 1x3 pad 0x1").summary_for(usize::MAX);
    assert_eq!(wide.totals.activation_bytes, u64::MAX);
    assert!(!wide.to_string().is_empty());
}

#[test]
fn every_receptive_field_holds_the_pixels_that_a_position_sees() {
    for text in [VGG16, CONVNETJS, LENET] {
        let network = network(text);
        let fields = network.receptive_fields();
        let ids = network.layers().map(|(id, _)| id).chain([NodeId::IMAGE]);
        for id in ids {
            let shape = network.shape(id);
            for position in [0, shape.h / 2, shape.h - 1] {
                let region = network.region(id, position, shape.w - 1).unwrap();
                assert_eq!(region.window_rows, fields[id.index()].h.window(position));
                let inside = |row: &usize| region.window_rows.contains(&(*row as i64));
                assert!(!region.rows.is_empty() && region.rows.clone().all(|row| inside(&row)), "{text}: {id} at {position}: {region:?}");
            }
        }
    }
}

#[test]
fn layers_of_every_kind_can_be_summarised() {
    for (layer, inputs) in Layer::examples() {
        let mut builder = Network::builder(inputs[0].chw());
        let Ok(id) = builder.add(layer.clone(), &vec![NodeId::IMAGE; inputs.len()]) else { continue };
        let summary = builder.finish(id).unwrap().summary();
        let expected: usize = layer.parameters(&inputs).iter().map(|spec| spec.count()).sum();
        let counted = summary.totals.parameters + summary.totals.buffers;
        if inputs.len() == 1 {
            assert_eq!(counted, expected as u64, "{layer}");
        }
        assert_eq!(summary.layers[0].formula.is_some(), summary.layers[0].parameters > 0, "{layer}");
    }
}

#[test]
fn the_longest_networks_are_summarised_in_the_time_of_a_glance() {
    let start = std::time::Instant::now();
    let summary = summary("input 3x16x16 -> [conv 3 3x3 pad 1 -> relu]*2000 -> flatten -> [fc 4 -> relu]*2000");
    assert_eq!((summary.layers.len(), summary.layers[3999].receptive_field), (8001, [4001, 4001]));
    assert!(summary.to_string().len() > 8000 * 60);
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}
