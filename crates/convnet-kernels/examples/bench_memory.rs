//! Times the kernels that memory limits: depthwise convolution, pooling, normalisation and element-wise routines.
//!
//! `bench_memory THREADS WORK…` times one piece of work and prints seconds per call and the gigabytes that must be moved
//! per second. Without arguments, such lines are read from standard input, each answered by a line, so that another
//! program can take turns with this one; a piece of work keeps its buffers until another is named.
//!
//! | work | example |
//! |---|---|
//! | depthwise convolution | `conv forward conv n1 c96 112x112 -> 96 w3 s2 p1 g96` (or `backward_input`, `backward_weight`) |
//! | pooling | `maxpool forward n1 c64 112x112 w3 s2 p1` (or `backward`; `avgpool`; `globalavgpool` without w, s, p) |
//! | batch norm in training | `batchnorm forward n1 c64 56x56`; `batchnormrelu` has the ReLU in it |
//! | rows × channels | `relu`, `gelu`, `add`, `softmax`, `logsoftmax`, `layernorm`: `softmax backward n128 c1000 1x1` |

use std::hint::black_box;
use std::io::{BufRead, Write};
use std::time::Instant;

use convnet_kernels::conv::{ConvShape, Epilogue, Pass, choose};
use convnet_kernels::memory::Buffer;
use convnet_kernels::norm::{batch, layer};
use convnet_kernels::pool::{self, PoolShape};
use convnet_kernels::window::{Axis, Rounding, Window};
use convnet_kernels::{Isa, Machine, elementwise, softmax};

/// How long a measurement takes at least.
const PORTION: f64 = 5e-3;

/// A piece of work with its buffers, and how many bytes it must read and write.
struct Work {
    run: Box<dyn FnMut(&Machine)>,
    bytes: usize,
}

fn work(numbers: usize, run: impl FnMut(&Machine) + 'static) -> Work {
    Work { run: Box::new(run), bytes: 4 * numbers }
}

/// Numbers between −1 and 1 whose signs no processor can foresee.
fn numbers(count: usize) -> Buffer<f32> {
    let mut state = 1_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    let mut values = Buffer::zeros(count).expect("the memory for a piece of work");
    values.fill_with(|| next() as f32 / (1_u32 << 31) as f32 - 1.0);
    values
}

/// Images and a window: `n1 c64 112x112 w3 s2 p1`.
struct Images {
    n: usize,
    c: usize,
    size: [usize; 2],
    window: Window,
}

impl Images {
    fn parse(words: &[&str]) -> Result<Self, String> {
        let mut images = Self { n: 1, c: 1, size: [1, 1], window: Window::pixel() };
        for word in words {
            let number = |digits: &str| digits.parse::<usize>().map_err(|error| format!("'{word}': {error}"));
            let set = |window: &mut Window, change: &dyn Fn(Axis) -> Axis| {
                (window.h, window.w) = (change(window.h), change(window.w));
            };
            match word.split_at(1) {
                ("n", rest) => images.n = number(rest)?,
                ("c", rest) => images.c = number(rest)?,
                ("w", rest) => {
                    let size = number(rest)?;
                    set(&mut images.window, &|axis| Axis { size, ..axis });
                }
                ("s", rest) => {
                    let stride = number(rest)?;
                    set(&mut images.window, &|axis| axis.stride(stride));
                }
                ("p", rest) => {
                    let pad = number(rest)?;
                    set(&mut images.window, &|axis| axis.pad(pad));
                }
                _ => {
                    let (height, width) = word.split_once('x').ok_or_else(|| format!("'{word}' is not understood"))?;
                    images.size = [number(height)?, number(width)?];
                }
            }
        }
        Ok(images)
    }

    fn rows(&self) -> usize {
        self.n * self.size[0] * self.size[1]
    }

    fn len(&self) -> usize {
        self.rows() * self.c
    }
}

fn convolution(pass: &str, text: &str) -> Result<Work, String> {
    let shape: ConvShape = text.parse()?;
    let pass = Pass::ALL.into_iter().find(|each| each.name() == pass).ok_or_else(|| format!("there is no pass '{pass}'"))?;
    let (x, w, dy) = (numbers(shape.input_len()), numbers(shape.weight_len()), numbers(shape.output_len()));
    let bytes = x.len() + dy.len();
    let mut result = numbers([dy.len(), x.len(), w.len()][pass as usize]);
    let (mut packed, mut scratch, mut packed_for) = (numbers(0), numbers(0), None);
    Ok(work(bytes, move |machine| {
        let algorithm = choose::<f32>(&shape, machine.means(), pass);
        if packed_for != Some(machine.isa) {
            packed_for = Some(machine.isa);
            packed = numbers((algorithm.packed_len)(&shape, machine.isa, pass));
            scratch = numbers((algorithm.scratch_len)(&shape, machine.isa, pass));
            (algorithm.pack)(machine, &shape, pass, &w, &mut packed);
        }
        match pass {
            Pass::Forward => (algorithm.forward)(machine, &shape, &x, &packed, &Epilogue::NONE, &mut result, &mut scratch),
            Pass::BackwardInput => (algorithm.backward_input)(machine, &shape, &dy, &packed, &mut result, &mut scratch),
            Pass::BackwardWeight => (algorithm.backward_weight)(machine, &shape, &x, &dy, &mut result, &mut scratch),
        }
    }))
}

fn pooling(kind: &str, forward: bool, images: &Images) -> Result<Work, String> {
    let shape = if kind == "globalavgpool" {
        PoolShape::adaptive(images.n, images.c, images.size, [1, 1])?
    } else {
        PoolShape::sliding(images.n, images.c, images.size, images.window, Rounding::Floor)?
    };
    let (x, mut y) = (numbers(shape.input_len()), numbers(shape.output_len()));
    let (mut dx, dy) = (numbers(x.len()), numbers(y.len()));
    let count = x.len() + y.len();
    if kind != "maxpool" {
        return Ok(work(count, move |machine| {
            if forward {
                pool::average_forward(machine, &shape, true, &x, &mut y);
            } else {
                pool::average_backward(machine, &shape, true, &dy, &mut dx);
            }
        }));
    }
    let mut indices = vec![0; y.len()];
    pool::max_forward(&Machine::new(Isa::detect(), 1), &shape, &x, &mut y, &mut indices);
    Ok(work(count, move |machine| {
        if forward {
            pool::max_forward(machine, &shape, &x, &mut y, &mut indices);
        } else {
            pool::max_backward(machine, &shape, &dy, &indices, &mut dx);
        }
    }))
}

fn batch_norm(relu: bool, forward: bool, images: &Images) -> Work {
    let norm = batch::BatchNorm { rows: images.rows(), channels: images.c, epsilon: 1e-5 };
    let (x, weight, bias) = (numbers(images.len()), numbers(images.c), numbers(images.c));
    let (mut y, dy, mut dx) = (numbers(images.len()), numbers(images.len()), numbers(images.len()));
    let mut statistics = vec![0.0; batch::STATISTICS * images.c];
    let mut scratch = numbers(norm.statistics_scratch().max(norm.forward_scratch()).max(norm.backward_scratch()));
    let (mut dweight, mut dbias) = (vec![0.0; images.c], vec![0.0; images.c]);
    let mut has_run = false;
    work(x.len() * if forward { 3 } else { 5 }, move |machine| {
        if forward || !has_run {
            has_run = true;
            norm.batch_statistics(machine, &x, &mut statistics, &mut scratch);
            let affine = Some([&weight[..], &bias]);
            let pass =
                batch::Forward { x: Some(&x), statistics: &statistics, affine, residual: None, relu, y: &mut y, scratch: &mut scratch };
            norm.forward(machine, pass);
        } else {
            let pass = batch::Backward {
                x: &x,
                dy: Some(&dy),
                relu,
                statistics: &statistics,
                of_batch: true,
                affine: Some([&weight[..], &bias]),
                dx: Some(&mut dx),
                daffine: Some([&mut dweight, &mut dbias]),
                scratch: &mut scratch,
            };
            norm.backward(machine, pass);
        }
    })
}

fn layer_norm(forward: bool, images: &Images) -> Work {
    let norm = layer::LayerNorm { rows: images.rows(), channels: images.c, epsilon: 1e-6 };
    let (x, weight, bias) = (numbers(images.len()), numbers(images.c), numbers(images.c));
    let (mut y, dy, mut dx) = (numbers(images.len()), numbers(images.len()), numbers(images.len()));
    let (mut statistics, mut scratch) = (numbers(norm.statistics()), numbers(norm.backward_scratch()));
    let (mut dweight, mut dbias) = (vec![0.0; images.c], vec![0.0; images.c]);
    let mut has_run = false;
    work(x.len() * if forward { 2 } else { 3 }, move |machine| {
        if forward || !has_run {
            has_run = true;
            norm.forward(machine, Some(&x), [&weight, &bias], &mut y, &mut statistics);
        } else {
            let (dx, dweight, dbias) = (Some(&mut dx[..]), &mut dweight[..], &mut dbias[..]);
            let pass = layer::Backward {
                x: &x,
                dy: Some(&dy),
                statistics: &statistics,
                weight: &weight,
                dx,
                dweight,
                dbias,
                scratch: &mut scratch,
            };
            norm.backward(machine, pass);
        }
    })
}

type Map = fn(&Machine, Option<&[f32]>, &mut [f32]);
type Gradient = fn(&Machine, &[f32], Option<&[f32]>, &mut [f32]);

fn map(forward: bool, images: &Images, map: Map, gradient: Gradient) -> Work {
    let (x, dy, mut out) = (numbers(images.len()), numbers(images.len()), numbers(images.len()));
    let count = x.len() * if forward { 2 } else { 3 };
    work(count, move |machine| if forward { map(machine, Some(&x), &mut out) } else { gradient(machine, &x, Some(&dy), &mut out) })
}

type RowsMap = fn(&Machine, usize, Option<&[f32]>, &mut [f32]);
type RowsGradient = fn(&Machine, usize, &[f32], Option<&[f32]>, &mut [f32]);

fn rows_map(forward: bool, images: &Images, map: RowsMap, gradient: RowsGradient) -> Work {
    let (x, dy, mut out, c) = (numbers(images.len()), numbers(images.len()), numbers(images.len()), images.c);
    let count = x.len() * if forward { 2 } else { 3 };
    work(count, move |machine| if forward { map(machine, c, Some(&x), &mut out) } else { gradient(machine, c, &x, Some(&dy), &mut out) })
}

/// The work of a line, without the number of threads.
fn prepare(words: &[&str]) -> Result<Work, String> {
    let [kind, pass, rest @ ..] = words else { return Err("a line is THREADS WORK PASS SIZES".into()) };
    if *kind == "conv" {
        return convolution(pass, &rest.join(" "));
    }
    let (images, forward) = (Images::parse(rest)?, *pass == "forward");
    Ok(match *kind {
        "maxpool" | "avgpool" | "globalavgpool" => pooling(kind, forward, &images)?,
        "batchnorm" => batch_norm(false, forward, &images),
        "batchnormrelu" => batch_norm(true, forward, &images),
        "layernorm" => layer_norm(forward, &images),
        "relu" => map(forward, &images, elementwise::relu, elementwise::relu_gradient),
        "gelu" => map(forward, &images, elementwise::gelu, elementwise::gelu_gradient),
        "softmax" => rows_map(forward, &images, softmax::softmax, softmax::softmax_gradient),
        "logsoftmax" => rows_map(forward, &images, softmax::log_softmax, softmax::log_softmax_gradient),
        "add" => {
            let (a, b, mut y) = (numbers(images.len()), numbers(images.len()), numbers(images.len()));
            work(3 * a.len(), move |machine| elementwise::add_all(machine, Some(&a), &[&b], &mut y))
        }
        _ => return Err(format!("there is no work '{kind}'")),
    })
}

/// Seconds of one call: the mean of as many as fill the time.
fn time(machine: &Machine, work: &mut Work) -> f64 {
    let mut calls = 1;
    (work.run)(machine);
    loop {
        let start = Instant::now();
        for _ in 0..calls {
            black_box(&mut work.run)(machine);
        }
        let seconds = start.elapsed().as_secs_f64();
        if seconds >= PORTION {
            return seconds / calls as f64;
        }
        calls = (calls as f64 * (1.2 * PORTION / seconds.max(1e-7)).clamp(1.5, 100.0)) as usize + 1;
    }
}

/// Answers lines, keeping the machines and the last piece of work.
struct Bench {
    isa: Isa,
    machines: Vec<Machine>,
    last: Option<(String, Work)>,
}

impl Bench {
    fn answer(&mut self, line: &str) -> Result<String, String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [threads, description @ ..] = &words[..] else { return Err("a line is THREADS WORK PASS SIZES".into()) };
        let threads = threads.parse::<usize>().map_err(|error| format!("'{threads}': {error}"))?;
        if !self.machines.iter().any(|machine| machine.threads.count() == threads) {
            self.machines.push(Machine::new(self.isa, threads));
        }
        let machine = self.machines.iter().find(|machine| machine.threads.count() == threads).ok_or("the threads could not be started")?;
        let name = description.join(" ");
        if self.last.as_ref().is_none_or(|(last, _)| *last != name) {
            self.last = None;
            self.last = Some((name, prepare(description)?));
        }
        let Some((_, work)) = &mut self.last else { return Err("no work".into()) };
        let seconds = time(machine, work);
        Ok(format!("{seconds:.4e} s {:.1} GB/s", work.bytes as f64 / seconds / 1e9))
    }
}

fn main() -> Result<(), String> {
    let mut bench = Bench { isa: Isa::from_environment()?, machines: Vec::new(), last: None };
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if !arguments.is_empty() {
        println!("{}", bench.answer(&arguments.join(" "))?);
        return Ok(());
    }
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|error| error.to_string())?;
        println!("{}", bench.answer(&line)?);
        std::io::stdout().flush().map_err(|error| error.to_string())?;
    }
    Ok(())
}
