//! Calibration errors, Brier score and the curves of each class against scikit-learn and torchmetrics: the cases of
//! `golden/classification.json`.

use std::path::Path;

use convnet::look::mistakes::class_curves;
use convnet::model::{CALIBRATION_BINS, Counter, best};
use serde_json::Value;

/// torchmetrics computes in f32.
const SINGLE: f64 = 1e-6;
const DOUBLE: f64 = 1e-12;

fn golden() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/classification.json");
    serde_json::from_slice(&std::fs::read(path).expect("the golden file is in the repository")).expect("the golden file is whole")
}

fn numbers(list: &Value) -> Vec<f64> {
    list.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

#[test]
fn probabilities_are_judged_as_elsewhere() {
    let golden = golden();
    assert_eq!(golden["bins"].as_u64(), Some(CALIBRATION_BINS as u64));
    let cases = golden["cases"].as_object().unwrap();
    assert_eq!(cases.len(), 3);
    for (name, case) in cases {
        let classes = case["classes"].as_u64().unwrap() as usize;
        let probabilities: Vec<f32> = numbers(&case["probabilities"]).into_iter().map(|number| number as f32).collect();
        let labels: Vec<usize> = numbers(&case["labels"]).into_iter().map(|label| label as usize).collect();
        let names: Vec<String> = (0..classes).map(|class| class.to_string()).collect();
        let mut counter = Counter::new(&names);
        for (sample, (row, &label)) in probabilities.chunks_exact(classes).zip(&labels).enumerate() {
            counter.count(sample, label, row, 0.0);
        }
        let found = counter.finish();
        let right = probabilities.chunks_exact(classes).zip(&labels).filter(|(row, label)| best(row) == **label).count();
        assert_eq!(found.accuracy, right as f64 / labels.len() as f64);
        for (what, number, tolerance) in
            [("ece", found.calibration.ece, SINGLE), ("mce", found.calibration.mce, SINGLE), ("brier", found.calibration.brier, DOUBLE)]
        {
            let expected = case[what].as_f64().unwrap();
            assert!((number - expected).abs() <= tolerance, "{name}, {what}: {number} and {expected}");
        }
        let (average_precision, auc) = (numbers(&case["average_precision"]), numbers(&case["auc"]));
        for class in 0..classes {
            let scores = probabilities.chunks_exact(classes).zip(&labels).map(|(row, &label)| (row[class], label == class));
            let curves = class_curves(&names[class], &scores.collect::<Vec<_>>());
            let found = [curves.average_precision.unwrap(), curves.auc.unwrap()];
            for (number, expected) in found.into_iter().zip([average_precision[class], auc[class]]) {
                assert!((number - expected).abs() <= DOUBLE, "{name}, class {class}: {number} and {expected}");
            }
        }
    }
}
