//! tract: the graph optimised for the shape of the images, on a thread pool of its own.

use anyhow::Result;
use tract_linalg::multithread::{Executor, set_default_executor};
use tract_onnx::prelude::*;

use super::{Predict, Work};

pub fn load(work: Work<'_>) -> Result<Predict> {
    if work.threads > 1 {
        set_default_executor(Executor::multithread(work.threads));
    }
    let fact = f32::fact(work.shape).into();
    let model = tract_onnx::onnx().model_for_path(work.onnx)?.with_input_fact(0, fact)?.into_optimized()?.into_runnable()?;
    let mut state = model.spawn()?;
    let images: TValue = Tensor::from_shape(&work.shape, &work.images)?.into();
    Ok(Box::new(move || {
        let outputs = state.run(tvec!(images.clone()))?;
        Ok(outputs[0].try_as_plain_ram()?.as_slice::<f32>()?.to_vec())
    }))
}
