//! Minimises a smooth function by limited-memory BFGS (Nocedal and Wright 2006, "Numerical Optimization", algorithm 7.5).
//!
//! ```text
//! x += a d        d = - H g        H the inverse curvature that the last steps s and changes of the gradient y tell
//! ```
//!
//! A step is halved until the function falls by a ten-thousandth of what the slope promises (Armijo).

use std::collections::VecDeque;

/// Steps that the curvature is told from.
const MEMORY: usize = 10;

/// Part of the promised fall that a step must bring.
const ARMIJO: f64 = 1e-4;

/// Halvings after which a direction leads nowhere.
const MOST_HALVINGS: usize = 20;

/// When to stop.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Limits {
    /// Steps at most.
    pub(super) steps: usize,
    /// Stops once a step makes the function fall by less than this share of its value.
    pub(super) tolerance: f64,
}

/// A step of the past: where it led, and how the gradient changed.
struct Past {
    step: Vec<f32>,
    change: Vec<f32>,
    /// 1 / (step . change)
    inverse: f64,
}

/// Moves `x` to where `function`, which returns its value and writes its gradient, is about the lowest. Returns the value
/// there.
pub(super) fn minimise(
    x: &mut Vec<f32>,
    limits: Limits,
    mut function: impl FnMut(&[f32], &mut [f32]) -> f64,
) -> f64 {
    let mut gradient = vec![0.0; x.len()];
    let mut value = function(x, &mut gradient);
    let mut past: VecDeque<Past> = VecDeque::with_capacity(MEMORY);
    let mut next = (x.clone(), gradient.clone());
    for _ in 0..limits.steps {
        let direction = direction(&gradient, &past);
        let slope = dot(&gradient, &direction);
        if slope >= 0.0 {
            break;
        }
        // Nothing is known of the curvature before the first step.
        let mut length = if past.is_empty() { 1.0 / dot(&gradient, &gradient).sqrt() } else { 1.0 };
        let mut lower = None;
        for _ in 0..MOST_HALVINGS {
            let moved =
                x.iter().zip(&direction).map(|(&x, &d)| (f64::from(x) + length * f64::from(d)) as f32);
            next.0.clear();
            next.0.extend(moved);
            let there = function(&next.0, &mut next.1);
            if there <= value + ARMIJO * length * slope {
                lower = Some(there);
                break;
            }
            length /= 2.0;
        }
        let Some(there) = lower else { break };
        let difference =
            |new: &[f32], old: &[f32]| new.iter().zip(old).map(|(a, b)| a - b).collect::<Vec<f32>>();
        let (step, change) = (difference(&next.0, x), difference(&next.1, &gradient));
        let curvature = dot(&step, &change);
        if curvature > 0.0 {
            if past.len() == MEMORY {
                past.pop_front();
            }
            past.push_back(Past { step, change, inverse: 1.0 / curvature });
        }
        std::mem::swap(x, &mut next.0);
        std::mem::swap(&mut gradient, &mut next.1);
        let fall = value - there;
        value = there;
        if fall <= limits.tolerance * value.abs() {
            break;
        }
    }
    value
}

/// - H g, by the two loops over the past steps.
fn direction(gradient: &[f32], past: &VecDeque<Past>) -> Vec<f32> {
    let mut direction: Vec<f32> = gradient.iter().map(|g| -g).collect();
    let mut shares = Vec::with_capacity(past.len());
    for Past { step, change, inverse } in past.iter().rev() {
        let share = inverse * dot(step, &direction);
        add(&mut direction, -share, change);
        shares.push(share);
    }
    if let Some(Past { change, inverse, .. }) = past.back() {
        let scale = 1.0 / (inverse * dot(change, change));
        direction.iter_mut().for_each(|d| *d = (f64::from(*d) * scale) as f32);
    }
    for (Past { step, change, inverse }, share) in past.iter().zip(shares.into_iter().rev()) {
        let correction = share - inverse * dot(change, &direction);
        add(&mut direction, correction, step);
    }
    direction
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

fn add(to: &mut [f32], scale: f64, what: &[f32]) {
    to.iter_mut().zip(what).for_each(|(to, &what)| *to = (f64::from(*to) + scale * f64::from(what)) as f32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_finds_the_bottom_of_a_narrow_valley() {
        // Rosenbrock's function; its bottom is at (1, 1).
        let mut x = vec![-1.2f32, 1.0];
        let limits = Limits { steps: 200, tolerance: 0.0 };
        let value = minimise(&mut x, limits, |x, gradient| {
            let (a, b) = (f64::from(x[0]), f64::from(x[1]));
            gradient[0] = (-400.0 * a * (b - a * a) - 2.0 * (1.0 - a)) as f32;
            gradient[1] = (200.0 * (b - a * a)) as f32;
            100.0 * (b - a * a).powi(2) + (1.0 - a).powi(2)
        });
        assert!(value < 1e-8 && x.iter().all(|x| (x - 1.0).abs() < 1e-3), "{value} {x:?}");
    }

    #[test]
    fn a_bowl_of_many_curvatures_takes_few_steps() {
        let curvatures: Vec<f32> = (1..=50).map(|i| i as f32).collect();
        let mut x = vec![3.0f32; 50];
        minimise(&mut x, Limits { steps: 40, tolerance: 0.0 }, |x, gradient| {
            let terms = x.iter().zip(&curvatures).zip(gradient.iter_mut());
            terms
                .map(|((&x, &c), g)| {
                    *g = c * x;
                    f64::from(c * x * x / 2.0)
                })
                .sum()
        });
        assert!(x.iter().all(|x| x.abs() < 1e-2), "{x:?}");
    }

    #[test]
    fn where_it_is_lowest_already_it_stays() {
        let mut x = vec![0.0f32; 3];
        let value = minimise(&mut x, Limits { steps: 9, tolerance: 0.0 }, |x, gradient| {
            gradient.copy_from_slice(x);
            x.iter().map(|x| f64::from(x * x / 2.0)).sum()
        });
        assert_eq!((value, x), (0.0, vec![0.0; 3]));
    }
}
