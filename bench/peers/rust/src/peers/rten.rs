//! rten: weights packed beforehand, on a thread pool of its own.

use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use rten::{ModelOptions, RunOptions, ThreadPool};
use rten_tensor::Tensor;
use rten_tensor::prelude::*;

use super::{Predict, Work};

pub fn load(work: Work<'_>) -> Result<Predict> {
    let model = ModelOptions::with_all_ops().prepack_weights(true).load_file(work.onnx)?;
    let images = Tensor::from_data(&work.shape, work.images);
    let options = RunOptions::default().with_thread_pool(Some(Arc::new(ThreadPool::with_num_threads(work.threads))));
    Ok(Box::new(move || {
        let scores = model.run_one(images.view().into(), Some(options.clone()))?;
        let scores: Tensor<f32> = scores.try_into().map_err(|error| anyhow!("{error:?}")).context("the scores are not f32")?;
        Ok(scores.into_data())
    }))
}
