//! [`compiled_once!`]: routines for both number types whose code is made in this crate.

/// Makes a routine that is generic over the number type but compiled here, for `f32` and for `f64`, and not again in every
/// crate that calls it. `'a` is the lifetime of all that the arguments refer to.
macro_rules! compiled_once {
    (
        $(#[$meta:meta])*
        $vis:vis fn $name:ident<$T:ident>($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block
    ) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name<'a, $T: $crate::Real>($($argument: $type),*) $(-> $result)? {
            fn routine<'a, $T: $crate::Real>($($argument: $type),*) $(-> $result)? $body

            struct Arguments<'a>(std::marker::PhantomData<&'a ()>);
            impl<'a> $crate::real::Generic for Arguments<'a> {
                type Of<$T: $crate::Real> = ($($type,)*);
            }
            #[inline(never)]
            fn on_f32<'a>(($($argument,)*): <Arguments<'a> as $crate::real::Generic>::Of<f32>) $(-> $result)? {
                routine::<f32>($($argument),*)
            }
            #[inline(never)]
            fn on_f64<'a>(($($argument,)*): <Arguments<'a> as $crate::real::Generic>::Of<f64>) $(-> $result)? {
                routine::<f64>($($argument),*)
            }
            $T::pick::<Arguments<'a>, _>(($($argument,)*), on_f32, on_f64)
        }
    };
}
pub(crate) use compiled_once;

#[cfg(test)]
mod tests {
    compiled_once! {
        fn bytes<T>(numbers: &'a [T], factor: usize) -> usize {
            std::mem::size_of_val(numbers) * factor
        }
    }

    #[test]
    fn each_type_runs_its_own_form() {
        assert_eq!((bytes(&[0.0_f32; 3], 2), bytes(&[0.0_f64; 3], 2)), (24, 48));
    }
}
