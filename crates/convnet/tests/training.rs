//! Training can be repeated, stopped and resumed to the bit, learns, and fails with a clear word.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use convnet::data::{Augmentation, Dataset, Split};
use convnet::network::Network;
use convnet::optim::Optimizer;
use convnet::plan::{Purpose, convolutions};
use convnet::train::{Event, Record, Run, Settings, Trainer, read_metrics};
use convnet::{Isa, Machine, Precision, Result};
use convnet_kernels::conv::candidates;
use convnet_kernels::conv::tuning::Tuning;

/// A network with all that could go wrong with repeating: batch statistics, dropout, a residual, a flatten.
const TEXT: &str = "
    input 1x28x28
    conv 6 3x3 stride 2 pad 1 no bias -> bn -> relu
    add( conv 6 3x3 pad 1 -> bn | identity ) -> relu -> maxpool 2
    dropout 0.3 -> flatten -> fc 10";

/// The first images of the embedded ones.
fn few(train: usize, test: usize) -> Dataset {
    let all = Dataset::embedded();
    let take = |split: &Split, count: usize| {
        Split::new(split.size(), split.pixels()[..count * split.image_bytes()].to_vec(), split.labels()[..count].to_vec()).unwrap()
    };
    Dataset::new(take(&all.train, train), take(&all.test, test), all.classes.clone()).unwrap()
}

fn settings(optimizer: Optimizer) -> Settings {
    Settings {
        epochs: 3,
        batch: 20,
        seed: 5,
        optimizer,
        learning_rate: Settings::usual_rate(&optimizer),
        log_every: 1,
        augmentation: Augmentation { shift: 2, flip: true, erase: 0.5, ..Augmentation::default() },
        ..Settings::default()
    }
}

fn trainer<'a>(optimizer: Optimizer, threads: usize) -> Trainer<'a> {
    let network = Network::parse(TEXT).unwrap();
    Trainer::new(&network).settings(settings(optimizer)).machine(Machine::new(Isa::detect(), threads))
}

/// Every bit of every parameter.
fn bits(run: &Run) -> Vec<u32> {
    run.model.parameters().list().iter().flat_map(|parameter| parameter.tensor.values()).map(|value| value.to_bits()).collect()
}

/// What was recorded, without the times.
fn losses(records: &[Record]) -> Vec<String> {
    let text = |record: &Record| match record {
        Record::Step(step) => format!("step {} {} {:x}", step.epoch, step.step, step.loss.to_bits()),
        Record::Epoch(epoch) => format!("epoch {} {:x} {:?}", epoch.epoch, epoch.train.loss.to_bits(), epoch.test),
    };
    records.iter().map(text).collect()
}

#[test]
fn the_same_seed_gives_the_same_bits_with_any_number_of_threads() {
    let data = few(120, 40);
    for optimizer in [Optimizer::nesterov(), Optimizer::adamw()] {
        let one = trainer(optimizer, 1).fit(&data).unwrap();
        for threads in [2, 3, 8] {
            let other = trainer(optimizer, threads).fit(&data).unwrap();
            assert!(bits(&other) == bits(&one), "{optimizer}, {threads} threads");
            assert_eq!(losses(&other.records), losses(&one.records));
        }
        let network = Network::parse(TEXT).unwrap();
        let reseeded = Trainer::new(&network).settings(settings(optimizer)).seed(6).fit(&data).unwrap();
        assert!(bits(&reseeded) != bits(&one), "another seed gives other weights");
    }
}

/// Trains in a folder and stops after so many steps.
fn stopped(folder: &Path, data: &Dataset, optimizer: Optimizer, after: usize) -> Result<Run> {
    stopped_on(Machine::new(Isa::detect(), 2), folder, data, optimizer, after)
}

fn stopped_on(machine: Machine, folder: &Path, data: &Dataset, optimizer: Optimizer, after: usize) -> Result<Run> {
    let stop = Arc::new(AtomicBool::new(after == 0));
    let flag = Arc::clone(&stop);
    let observe = move |event: Event<'_>| {
        if let Event::Step { record, .. } = event
            && record.step == after
        {
            flag.store(true, Ordering::Relaxed);
        }
    };
    trainer(optimizer, 2).machine(machine).folder(folder).stop_flag(stop).observer(observe).fit(data)
}

#[test]
fn a_training_stopped_at_any_step_and_resumed_equals_one_that_was_not() {
    let data = few(80, 30);
    for optimizer in [Optimizer::nesterov(), Optimizer::adamw()] {
        let whole_folder = tempfile::tempdir().unwrap();
        let whole = stopped(&whole_folder.path().join("run"), &data, optimizer, usize::MAX).unwrap();
        assert!(whole.finished && whole.steps == 12);
        for after in 0..=12 {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("run");
            let half = stopped(&path, &data, optimizer, after).unwrap();
            assert_eq!(half.steps, after);
            // The fingerprint of the data and the network are those of the folder; the machine is another.
            let rest = Trainer::resume(&path).unwrap().machine(Machine::new(Isa::detect(), 3)).fit(&data).unwrap();
            assert!(rest.finished && bits(&rest) == bits(&whole), "{optimizer}, stopped after step {after}");
            assert_eq!(losses(&rest.records), losses(&whole.records), "stopped after step {after}");
            assert_eq!(losses(&read_metrics(&path.join("metrics.jsonl")).unwrap()), losses(&whole.records));
        }
    }
}

#[test]
fn a_training_that_computes_activations_again_ends_with_the_same_bits_and_may_begin_to_at_any_time() {
    let (data, optimizer) = (few(80, 30), Optimizer::nesterov());
    let kept = trainer(optimizer, 2).fit(&data).unwrap();
    let again = trainer(optimizer, 2).recompute(true).fit(&data).unwrap();
    assert!(again.record.settings.recompute && bits(&again) == bits(&kept));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    stopped(&path, &data, optimizer, 5).unwrap();
    let rest = Trainer::resume(&path).unwrap().recompute(true).fit(&data).unwrap();
    assert!(bits(&rest) == bits(&kept));
}

/// A machine on which one algorithm was measured to be the fastest of all, in every plan of [`trainer`].
fn tuned(algorithm: &str) -> Machine {
    let (network, machine) = (Network::parse(TEXT).unwrap(), Machine::new(Isa::detect(), 1));
    let mut tuning = Tuning::default();
    for purpose in [Purpose::Train, Purpose::Infer] {
        for question in convolutions(&network, 20, purpose, &machine).unwrap().iter().flat_map(|convolution| &convolution.questions) {
            candidates::<f32>(question.shape(), machine.means()).for_each(|candidate| {
                tuning.insert(*question, candidate.name, if candidate.name == algorithm { 1.0 } else { 2.0 });
            });
        }
    }
    machine.tuned(Some(Arc::new(tuning)))
}

#[test]
fn a_tuned_training_goes_on_with_the_choices_that_it_was_begun_with() {
    let (data, optimizer) = (few(80, 30), Optimizer::nesterov());
    let plain = trainer(optimizer, 1).fit(&data).unwrap();
    for algorithm in ["winograd 2x2", "winograd 4x4", "direct"] {
        let whole = trainer(optimizer, 1).machine(tuned(algorithm)).fit(&data).unwrap();
        assert!(whole.record.tuned && !plain.record.tuned);
        for after in [0, 3, 6] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("run");
            stopped_on(tuned(algorithm), &path, &data, optimizer, after).unwrap();
            // Whatever this machine has measured since, and with another number of threads.
            for machine in [Machine::new(Isa::detect(), 3), tuned("winograd 2x2"), tuned("direct")] {
                let copy = tempfile::tempdir().unwrap();
                copy_folder(&path, &copy.path().join("run"));
                let rest = Trainer::resume(copy.path().join("run")).unwrap().machine(machine).fit(&data).unwrap();
                assert!(rest.finished && rest.record.tuned && bits(&rest) == bits(&whole), "{algorithm}, stopped after step {after}");
            }
        }
    }
    let different = ["winograd 2x2", "direct"].map(|algorithm| bits(&trainer(optimizer, 1).machine(tuned(algorithm)).fit(&data).unwrap()));
    assert!(different[0] != different[1], "the choices make no difference, so that this test says nothing");
}

#[test]
fn a_training_goes_on_with_the_precision_that_it_was_begun_with() {
    let (data, optimizer) = (few(80, 30), Optimizer::nesterov());
    let network = "input 1x28x28 -> conv 16 3x3 stride 2 pad 1 -> relu -> [conv 16 3x3 pad 1 -> relu]*2 -> maxpool 2 -> flatten -> fc 10";
    let trainer = || Trainer::new(&Network::parse(network).unwrap()).settings(settings(optimizer));
    let machine = |threads| Machine::new(Isa::detect(), threads);
    let plain = bits(&trainer().machine(machine(1)).fit(&data).unwrap());
    for precision in [Precision::F32x6, Precision::F32x3, Precision::Bf16] {
        let whole = trainer().machine(machine(1).with_precision(precision)).fit(&data).unwrap();
        assert!(whole.record.precision == precision && bits(&whole) != plain, "{precision}");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let stop = Arc::new(AtomicBool::new(false));
        let first = trainer().machine(machine(2).with_precision(precision)).folder(&path).stop_flag(Arc::clone(&stop));
        let first = first.observer(|event| {
            if let Event::Step { record, .. } = event
                && record.step == 5
            {
                stop.store(true, std::sync::atomic::Ordering::Relaxed);
            }
        });
        assert!(!first.fit(&data).unwrap().finished);
        assert!(std::fs::read_to_string(path.join("run.toml")).unwrap().contains(&format!("precision = \"{precision}\"")));
        let rest = Trainer::resume(&path).unwrap().machine(machine(3)).fit(&data).unwrap();
        assert!(rest.finished && rest.record.precision == precision && bits(&rest) == bits(&whole), "{precision}");
    }
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn a_tuned_training_whose_times_are_lost_is_not_resumed_with_others() {
    let data = few(80, 30);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    stopped_on(tuned("direct"), &path, &data, Optimizer::sgd(), 0).unwrap();
    let text = std::fs::read_to_string(path.join("tuning.json")).unwrap();
    std::fs::write(path.join("tuning.json"), &text[..text.len() / 2]).unwrap();
    assert!(Trainer::resume(&path).unwrap_err().to_string().contains("tuning.json: the file is damaged"));
    std::fs::remove_file(path.join("tuning.json")).unwrap();
    assert!(Trainer::resume(&path).unwrap_err().to_string().contains("tuning.json"));
    std::fs::write(path.join("tuning.json"), text).unwrap();
    assert!(Trainer::resume(&path).unwrap().fit(&data).unwrap().finished);
}

#[test]
fn a_small_network_learns_32_images_by_heart() {
    let data = few(32, 32);
    let network =
        Network::parse("input 1x28x28 -> conv 16 3x3 stride 2 pad 1 -> relu -> conv 32 3x3 stride 2 pad 1 -> relu -> flatten -> fc 10")
            .unwrap();
    let plain = Settings { epochs: 60, batch: 16, augmentation: Augmentation::default(), ..Settings::default() };
    let run = Trainer::new(&network).settings(Settings { evaluate_every: 60, ..plain }).fit(&data).unwrap();
    let last = *run.epochs().last().unwrap();
    assert_eq!(last.train.accuracy, 1.0, "{last:?}");
}

#[test]
fn a_loss_that_is_no_number_ends_the_training_with_its_place() {
    let data = few(80, 30);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let network = Network::parse("input 1x28x28 -> conv 8 3x3 -> relu -> conv 8 3x3 -> relu -> flatten -> fc 10").unwrap();
    let wild = Settings { learning_rate: 1e30, weight_decay: 0.0, ..settings(Optimizer::sgd()) };
    let error = Trainer::new(&network).settings(wild).folder(&path).fit(&data).unwrap_err().to_string();
    for part in ["the loss became", "at step", "layer '", "--lr"] {
        assert!(error.contains(part), "{error}");
    }
    assert!(!path.join("model.safetensors").exists());
}

#[test]
fn what_does_not_fit_together_is_refused_before_anything_is_written() {
    let data = few(80, 30);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let refused = |text: &str, settings: Settings| {
        let network = Network::parse(text).unwrap();
        let error = Trainer::new(&network).settings(settings).folder(&path).fit(&data).unwrap_err().to_string();
        assert!(!path.exists(), "{error}");
        error
    };
    let usual = || settings(Optimizer::sgd());
    let error = refused("input 1x28x28 -> flatten -> fc 7", usual());
    assert!(error.contains("gives 7 scores") && error.contains("10 classes"), "{error}");
    let error = refused("input 3x32x32 -> flatten -> fc 10", usual());
    assert!(error.contains("3x32x32") && error.contains("1x28x28"), "{error}");
    let error = refused("input 1x28x28 -> conv 10 3x3", usual());
    assert!(error.contains("10x26x26"), "{error}");
    let text = "input 1x28x28 -> flatten -> fc 10";
    assert!(refused(text, Settings { epochs: 0, ..usual() }).contains("epochs is 0"));
    assert!(refused(text, Settings { learning_rate: f64::NAN, ..usual() }).contains("learning_rate is NaN"));
    assert!(refused(text, Settings { batch: 81, ..usual() }).contains("80 training images"));
}

#[test]
fn a_folder_in_use_or_of_other_images_is_not_written_to() {
    let (data, other) = (few(80, 30), few(60, 30));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    stopped(&path, &data, Optimizer::sgd(), 5).unwrap();
    let error = stopped(&path, &data, Optimizer::sgd(), 5).unwrap_err().to_string();
    assert!(error.contains("is not empty") && error.contains("--resume"), "{error}");
    let error = Trainer::resume(&path).unwrap().fit(&other).unwrap_err().to_string();
    assert!(error.contains("other images"), "{error}");
    let file = folder.path().join("file");
    std::fs::write(&file, "x").unwrap();
    assert!(stopped(&file.join("run"), &data, Optimizer::sgd(), 5).is_err());
}
