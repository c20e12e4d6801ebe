//! Where the numbers are crunched.

use std::{fmt, str::FromStr, sync::Arc};

use tracing::info;

use super::cuda::{Cuda, DeviceError};
use crate::error::{Error, Result};

/// Where networks learn. Answers are computed on the processor always: one text at a time is faster there, training never
/// slows them down, and what a version answers does not depend on where it runs.
#[derive(Debug, Clone)]
pub enum Device {
    /// The processor.
    Cpu,
    /// A graphics processor.
    Cuda(Arc<Cuda>),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(cuda) => write!(f, "cuda:{} ({})", cuda.index(), cuda.name()),
        }
    }
}

/// The device that the configuration asks for: `auto`, `cpu`, or `cuda:N`.
///
/// ```
/// use taxond::model::DeviceChoice;
///
/// assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda(0)));
/// assert_eq!(DeviceChoice::Cuda(1).to_string(), "cuda:1");
/// assert!("gpu".parse::<DeviceChoice>().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// The best there is.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// This graphics processor and no other.
    Cuda(usize),
}

impl DeviceChoice {
    /// Opens the device. Only `auto` may end on another than was named.
    ///
    /// # Errors
    /// [`Error::Unavailable`] for a device that this machine or this build does not have.
    pub fn open(self) -> Result<Device> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(index) => match Cuda::open(index) {
                Ok(cuda) => Ok(Device::Cuda(Arc::new(cuda))),
                Err(error) => Err(Error::Unavailable(format!(
                    "device '{self}' is not available: {error}{}",
                    remedy(&error)
                ))),
            },
            Self::Auto => match Cuda::open(0) {
                Ok(cuda) => Ok(Device::Cuda(Arc::new(cuda))),
                Err(error) => {
                    info!(%error, "no graphics processor; networks learn on the processor");
                    Ok(Device::Cpu)
                }
            },
        }
    }
}

/// What helps against a missing library.
fn remedy(error: &DeviceError) -> &'static str {
    match error {
        DeviceError::NoLibrary(_) => "; docs/gpu.md says what a host needs, or set device to auto or cpu",
        _ => "; set device to auto or cpu to go on without it",
    }
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let index = match text {
            "auto" => return Ok(Self::Auto),
            "cpu" => return Ok(Self::Cpu),
            "cuda" => Some(0),
            _ => text.strip_prefix("cuda:").and_then(|index| index.parse().ok()),
        };
        index.map(Self::Cuda).ok_or_else(|| format!("must be auto, cpu or cuda:N, got '{text}'"))
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_not_there_is_an_error_and_only_auto_falls_back() {
        assert!(matches!(DeviceChoice::Cpu.open(), Ok(Device::Cpu)));
        assert!(DeviceChoice::Auto.open().is_ok());
        let error = DeviceChoice::Cuda(4096).open().unwrap_err().to_string();
        assert!(error.starts_with("device 'cuda:4096' is not available: "), "{error}");
        assert!(error.ends_with("auto or cpu") || error.ends_with("go on without it"), "{error}");
    }

    #[test]
    fn words_are_read_strictly() {
        for (word, choice) in
            [("auto", DeviceChoice::Auto), ("cpu", DeviceChoice::Cpu), ("cuda:3", DeviceChoice::Cuda(3))]
        {
            assert_eq!(word.parse(), Ok(choice));
            assert_eq!(choice.to_string(), word);
        }
        for bad in ["", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "CPU"] {
            assert!(bad.parse::<DeviceChoice>().is_err(), "{bad}");
        }
    }
}
