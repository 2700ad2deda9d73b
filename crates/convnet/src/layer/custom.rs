//! The door for layers from outside this crate: [`LayerRules`] behind a trait object.
//!
//! The rules have generic methods, which a trait object cannot have, so [`CustomLayer`] spells them out for the two number
//! types, and [`Real::pick`] leads a generic plan to the right one.

use std::fmt;
use std::marker::PhantomData;

use convnet_kernels::Real;
use convnet_kernels::real::Generic;

use super::{Backward, Forward, LayerRules, Memory, ParameterSpec, Prepare, Reach, Use};
use crate::shape::Shape;

/// The part of [`LayerRules`] that a trait object can have. Implemented for every [`LayerRules`]; not to be implemented
/// by hand.
#[allow(missing_docs)]
pub trait CustomLayer: fmt::Debug + Send + Sync {
    fn kind(&self) -> &'static str;
    fn arity(&self) -> (usize, usize);
    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, String>;
    fn warnings(&self, inputs: &[Shape]) -> Vec<String>;
    fn parameters(&self, inputs: &[Shape]) -> Vec<ParameterSpec>;
    fn formula(&self, inputs: &[Shape]) -> Option<String>;
    fn macs(&self, inputs: &[Shape]) -> u64;
    fn reach(&self) -> Reach;
    fn elementwise(&self) -> bool;
    fn takes_epilogue(&self) -> bool;
    fn memory_f32(&self, inputs: &[Shape], usage: Use) -> Memory;
    fn memory_f64(&self, inputs: &[Shape], usage: Use) -> Memory;
    fn prepare_f32(&self, pass: Prepare<'_, f32>);
    fn prepare_f64(&self, pass: Prepare<'_, f64>);
    fn forward_f32(&self, pass: Forward<'_, f32>);
    fn forward_f64(&self, pass: Forward<'_, f64>);
    fn backward_f32(&self, pass: Backward<'_, f32>);
    fn backward_f64(&self, pass: Backward<'_, f64>);
    fn update_buffers_f32(&self, inputs: &[Shape], saved: &[f32], buffers: &mut [&mut [f32]]);
    fn update_buffers_f64(&self, inputs: &[Shape], saved: &[f64], buffers: &mut [&mut [f64]]);
}

macro_rules! custom_layer {
    ($layer:ident: $($method:ident($($argument:ident: $type:ty),*) $(-> $result:ty)? = $target:ident;)*) => {
        impl<$layer: LayerRules + fmt::Debug + Send + Sync> CustomLayer for $layer {
            $(fn $method(&self, $($argument: $type),*) $(-> $result)? {
                LayerRules::$target(self, $($argument),*)
            })*
            fn memory_f32(&self, inputs: &[Shape], usage: Use) -> Memory {
                LayerRules::memory::<f32>(self, inputs, usage)
            }
            fn memory_f64(&self, inputs: &[Shape], usage: Use) -> Memory {
                LayerRules::memory::<f64>(self, inputs, usage)
            }
        }
    };
}

custom_layer! { L:
    kind() -> &'static str = kind;
    arity() -> (usize, usize) = arity;
    output_shape(inputs: &[Shape]) -> Result<Shape, String> = output_shape;
    warnings(inputs: &[Shape]) -> Vec<String> = warnings;
    parameters(inputs: &[Shape]) -> Vec<ParameterSpec> = parameters;
    formula(inputs: &[Shape]) -> Option<String> = formula;
    macs(inputs: &[Shape]) -> u64 = macs;
    reach() -> Reach = reach;
    elementwise() -> bool = elementwise;
    takes_epilogue() -> bool = takes_epilogue;
    prepare_f32(pass: Prepare<'_, f32>) = prepare;
    prepare_f64(pass: Prepare<'_, f64>) = prepare;
    forward_f32(pass: Forward<'_, f32>) = forward;
    forward_f64(pass: Forward<'_, f64>) = forward;
    backward_f32(pass: Backward<'_, f32>) = backward;
    backward_f64(pass: Backward<'_, f64>) = backward;
    update_buffers_f32(inputs: &[Shape], saved: &[f32], buffers: &mut [&mut [f32]]) = update_buffers;
    update_buffers_f64(inputs: &[Shape], saved: &[f64], buffers: &mut [&mut [f64]]) = update_buffers;
}

struct Nothing;

impl Generic for Nothing {
    type Of<T: Real> = ();
}

struct PrepareOf<'a>(PhantomData<&'a ()>);

impl<'a> Generic for PrepareOf<'a> {
    type Of<T: Real> = Prepare<'a, T>;
}

struct ForwardOf<'a>(PhantomData<&'a ()>);

impl<'a> Generic for ForwardOf<'a> {
    type Of<T: Real> = Forward<'a, T>;
}

struct BackwardOf<'a>(PhantomData<&'a ()>);

impl<'a> Generic for BackwardOf<'a> {
    type Of<T: Real> = Backward<'a, T>;
}

struct BuffersOf<'a, 'b>(PhantomData<&'a &'b ()>);

impl<'a, 'b: 'a> Generic for BuffersOf<'a, 'b> {
    type Of<T: Real> = (&'a [T], &'a mut [&'b mut [T]]);
}

pub(super) fn memory<T: Real>(layer: &dyn CustomLayer, inputs: &[Shape], usage: Use) -> Memory {
    T::pick::<Nothing, _>((), |()| layer.memory_f32(inputs, usage), |()| layer.memory_f64(inputs, usage))
}

pub(super) fn prepare<T: Real>(layer: &dyn CustomLayer, pass: Prepare<'_, T>) {
    T::pick::<PrepareOf<'_>, _>(pass, |pass| layer.prepare_f32(pass), |pass| layer.prepare_f64(pass));
}

pub(super) fn forward<T: Real>(layer: &dyn CustomLayer, pass: Forward<'_, T>) {
    T::pick::<ForwardOf<'_>, _>(pass, |pass| layer.forward_f32(pass), |pass| layer.forward_f64(pass));
}

pub(super) fn backward<T: Real>(layer: &dyn CustomLayer, pass: Backward<'_, T>) {
    T::pick::<BackwardOf<'_>, _>(pass, |pass| layer.backward_f32(pass), |pass| layer.backward_f64(pass));
}

pub(super) fn update_buffers<T: Real>(layer: &dyn CustomLayer, inputs: &[Shape], saved: &[T], buffers: &mut [&mut [T]]) {
    T::pick::<BuffersOf<'_, '_>, _>(
        (saved, buffers),
        |(saved, buffers)| layer.update_buffers_f32(inputs, saved, buffers),
        |(saved, buffers)| layer.update_buffers_f64(inputs, saved, buffers),
    );
}
