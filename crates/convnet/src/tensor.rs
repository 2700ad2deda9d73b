//! Values with a shape, in logical order: the last axis is the fastest.

use convnet_kernels::Real;

use crate::error::{Error, Result};
use crate::shape::{Shape, sizes_text};

/// Numbers with their sizes, the last axis fastest. Images are N×C×H×W, filters K×C×R×S.
///
/// ```
/// use convnet::tensor::Tensor;
/// let tensor = Tensor::new(vec![2, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0])?;
/// assert_eq!(tensor.values()[3], 4.0);
/// # Ok::<(), convnet::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Tensor<T = f32> {
    sizes: Vec<usize>,
    values: Vec<T>,
}

impl<T: Real> Tensor<T> {
    /// These values with these sizes.
    ///
    /// # Errors
    /// The product of the sizes is not the number of values.
    pub fn new(sizes: Vec<usize>, values: Vec<T>) -> Result<Self> {
        let count = sizes.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
        if count != Some(values.len()) {
            return Err(Error::Shape(format!("a tensor of {} cannot hold {} values", sizes_text(&sizes), values.len())));
        }
        Ok(Self { sizes, values })
    }

    /// All zero.
    ///
    /// # Errors
    /// The product of the sizes is too large to address.
    pub fn zeros(sizes: Vec<usize>) -> Result<Self> {
        let count = sizes
            .iter()
            .try_fold(1usize, |product, &size| product.checked_mul(size))
            .filter(|&count| count <= Shape::MAX_COUNT)
            .ok_or_else(|| Error::Shape(format!("a tensor of {} is larger than memory can address", sizes_text(&sizes))))?;
        Ok(Self { sizes, values: vec![T::ZERO; count] })
    }

    /// Length of each axis.
    pub fn sizes(&self) -> &[usize] {
        &self.sizes
    }

    /// The numbers, last axis fastest.
    pub fn values(&self) -> &[T] {
        &self.values
    }

    /// The numbers, to be changed in place.
    pub fn values_mut(&mut self) -> &mut [T] {
        &mut self.values
    }

    /// The numbers alone.
    pub fn into_values(self) -> Vec<T> {
        self.values
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The sizes as N×C×H×W, missing trailing axes being 1.
    ///
    /// # Errors
    /// There are no axes or more than four.
    pub fn shape(&self) -> Result<Shape> {
        match self.sizes[..] {
            [n, c, h, w] => Ok(Shape::new(n, c, h, w)),
            [n, c, h] => Ok(Shape::new(n, c, h, 1)),
            [n, c] => Ok(Shape::new(n, c, 1, 1)),
            [n] => Ok(Shape::new(n, 1, 1, 1)),
            _ => Err(Error::Shape(format!("a tensor of {} axes is not a batch of images N×C×H×W", self.sizes.len()))),
        }
    }

    /// The same numbers in the other precision.
    pub fn cast<U: Real>(&self) -> Tensor<U> {
        Tensor { sizes: self.sizes.clone(), values: self.values.iter().map(|value| U::from_f64(value.to_f64())).collect() }
    }
}

/// Copies a batch from N×C×H×W to channels last, N×H×W×C.
pub fn to_channels_last<T: Copy>(shape: Shape, logical: &[T], channels_last: &mut [T]) {
    let pixels = shape.pixels();
    for (image, target) in logical.chunks_exact(shape.image()).zip(channels_last.chunks_exact_mut(shape.image())) {
        // Photographs: written front to back, pixel by pixel.
        if shape.c == 3 {
            let (red, rest) = image.split_at(pixels);
            let (green, blue) = rest.split_at(pixels);
            for (((target, &red), &green), &blue) in target.as_chunks_mut::<3>().0.iter_mut().zip(red).zip(green).zip(blue) {
                *target = [red, green, blue];
            }
            continue;
        }
        for (c, plane) in image.chunks_exact(pixels).enumerate() {
            for (pixel, &value) in plane.iter().enumerate() {
                target[pixel * shape.c + c] = value;
            }
        }
    }
}

/// Copies a batch from channels last, N×H×W×C, to N×C×H×W.
pub fn from_channels_last<T: Copy>(shape: Shape, channels_last: &[T], logical: &mut [T]) {
    let pixels = shape.pixels();
    for (image, target) in channels_last.chunks_exact(shape.image()).zip(logical.chunks_exact_mut(shape.image())) {
        for (c, plane) in target.chunks_exact_mut(pixels).enumerate() {
            for (pixel, value) in plane.iter_mut().enumerate() {
                *value = image[pixel * shape.c + c];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layouts_are_each_others_inverse() {
        let shape = Shape::new(2, 3, 4, 5);
        let logical: Vec<f32> = (0..shape.count()).map(|i| i as f32).collect();
        let (mut last, mut back) = (vec![0.0; logical.len()], vec![0.0; logical.len()]);
        to_channels_last(shape, &logical, &mut last);
        assert_eq!(last[..4], [0.0, 20.0, 40.0, 1.0]);
        from_channels_last(shape, &last, &mut back);
        assert_eq!(back, logical);
    }

    #[test]
    fn a_wrong_count_is_refused_with_both_numbers() {
        let error = Tensor::new(vec![2, 3], vec![0f32; 5]).unwrap_err().to_string();
        assert!(error.contains("2x3") && error.contains('5'), "{error}");
        assert!(Tensor::<f32>::zeros(vec![usize::MAX, 2]).is_err());
    }
}
