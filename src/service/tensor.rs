//! Tensors of the Open Inference Protocol: the texts of a request, and the outputs of a response.
//!
//! Elements come typed (`contents`) or raw: numbers with the lowest byte first, strings each behind its length in bytes,
//! a 32-bit number with the lowest byte first.

use std::collections::HashMap;

use super::check::{MAX_TEXTS, Violations};
use crate::{
    error::{Error, Result},
    proto::inference::{
        InferParameter, InferTensorContents, ModelInferRequest,
        infer_parameter::ParameterChoice,
        model_infer_request::{InferInputTensor, InferRequestedOutputTensor},
        model_infer_response::InferOutputTensor,
        model_metadata_response::TensorMetadata,
    },
};

/// Name of the one input.
const TEXT: &str = "text";
/// Bytes of a length in front of a raw string.
const LENGTH_BYTES: usize = 4;

/// The texts of a request.
#[derive(Debug, PartialEq)]
pub(super) struct Texts {
    /// The texts, at most [`MAX_TEXTS`].
    pub(super) texts: Vec<String>,
    /// `[n]` or `[n, 1]`.
    pub(super) shape: Vec<i64>,
    /// Whether they came raw, so that the answer shall be raw.
    pub(super) raw: bool,
}

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Output {
    /// Name of the best class, in the shape of the texts.
    Label,
    /// Its probability, in the shape of the texts.
    Score,
    /// Probabilities of all classes, `[n, classes]`.
    Probabilities,
}

/// The elements of an output, row by row.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Elements {
    Bytes(Vec<String>),
    Fp32(Vec<f32>),
}

impl Output {
    const ALL: [Self; 3] = [Self::Label, Self::Score, Self::Probabilities];
    const DEFAULT: [Self; 2] = [Self::Label, Self::Score];

    fn name(self) -> &'static str {
        match self {
            Self::Label => "label",
            Self::Score => "score",
            Self::Probabilities => "probabilities",
        }
    }

    fn datatype(self) -> &'static str {
        match self {
            Self::Label => "BYTES",
            Self::Score | Self::Probabilities => "FP32",
        }
    }
}

/// Names as a JSON array.
pub(super) fn json(names: &[&str]) -> String {
    serde_json::Value::from(names.to_vec()).to_string()
}

/// What the model takes.
pub(super) fn inputs() -> Vec<TensorMetadata> {
    vec![TensorMetadata { name: TEXT.into(), datatype: "BYTES".into(), shape: vec![-1] }]
}

/// What a model of so many classes gives.
pub(super) fn outputs(classes: usize) -> Vec<TensorMetadata> {
    let shape = |output| match output {
        Output::Label | Output::Score => vec![-1],
        Output::Probabilities => vec![-1, classes as i64],
    };
    let metadata = |output: Output| TensorMetadata {
        name: output.name().into(),
        datatype: output.datatype().into(),
        shape: shape(output),
    };
    Output::ALL.map(metadata).into()
}

/// The outputs that a request wants; label and score if it names none.
///
/// # Errors
/// [`Error::Invalid`] with the position and what is wrong.
pub(super) fn wanted(outputs: &[InferRequestedOutputTensor]) -> Result<Vec<Output>> {
    if outputs.is_empty() {
        return Ok(Output::DEFAULT.to_vec());
    }
    let mut violations = Violations::default();
    let mut wanted = Vec::new();
    // A list that names none twice is no longer than that of all; one more tells what is wrong with a longer one.
    for (index, asked) in outputs.iter().enumerate().take(Output::ALL.len() + 1) {
        let field = format!("outputs[{index}]");
        refuse_parameters(&mut violations, &field, &asked.name, &asked.parameters);
        match Output::ALL.into_iter().find(|output| output.name() == asked.name) {
            None => violations.add(
                format!("{field}.name"),
                format!("must be 'label', 'score' or 'probabilities', got '{}'", shown(&asked.name)),
            ),
            Some(output) if wanted.contains(&output) => {
                violations.add(format!("{field}.name"), format!("'{}' is given twice", output.name()));
            }
            Some(output) => wanted.push(output),
        }
    }
    violations.finish()?;
    Ok(wanted)
}

/// The texts of a request.
///
/// # Errors
/// [`Error::Invalid`] with the field, the tensor and what is wrong with it.
pub(super) fn texts(request: ModelInferRequest) -> Result<Texts> {
    let [input] = <[InferInputTensor; 1]>::try_from(request.inputs).map_err(|inputs| {
        Error::invalid("inputs", format!("must be the tensor 'text' alone, got {}", inputs.len()))
    })?;
    let mut violations = Violations::default();
    if input.name != TEXT {
        violations.add("inputs[0].name", format!("must be 'text', got '{}'", shown(&input.name)));
    }
    if input.datatype != "BYTES" {
        let description = format!("tensor 'text' must be BYTES, got '{}'", shown(&input.datatype));
        violations.add("inputs[0].datatype", description);
    }
    refuse_parameters(&mut violations, "inputs[0]", TEXT, &input.parameters);
    let count = count(&input.shape).map_err(|what| violations.add("inputs[0].shape", what)).ok();
    violations.finish()?;
    let count = count.unwrap_or_default();

    let (field, elements, raw) = elements(input.contents, request.raw_input_contents, count)?;
    if elements.len() != count {
        let description = format!(
            "tensor 'text' has {} elements, its shape {:?} takes {count}",
            elements.len(),
            input.shape
        );
        return Err(Error::invalid(field, description));
    }
    let mut violations = Violations::default();
    let mut texts = Vec::with_capacity(count);
    for (index, element) in elements.into_iter().enumerate() {
        match String::from_utf8(element) {
            Ok(text) => {
                violations.text(|| format!("{field}[{index}]"), &text);
                texts.push(text);
            }
            Err(fault) => violations.add(
                format!("{field}[{index}]"),
                format!("tensor 'text' must be UTF-8, byte {} is not", fault.utf8_error().valid_up_to()),
            ),
        }
    }
    violations.finish()?;
    Ok(Texts { texts, shape: input.shape, raw })
}

/// The elements of the one input, with the field that holds them and whether they are raw.
fn elements(
    contents: Option<InferTensorContents>,
    raw: Vec<Vec<u8>>,
    count: usize,
) -> Result<(&'static str, Vec<Vec<u8>>, bool)> {
    const RAW: &str = "raw_input_contents";
    if raw.is_empty() {
        return Ok(("inputs[0].contents", contents.unwrap_or_default().bytes_contents, false));
    }
    let [bytes] = <[Vec<u8>; 1]>::try_from(raw).map_err(|raw| {
        Error::invalid(RAW, format!("must hold tensor 'text' alone, got {} tensors", raw.len()))
    })?;
    if contents.is_some_and(|contents| contents != InferTensorContents::default()) {
        return Err(Error::invalid("inputs[0].contents", "tensor 'text' must be typed or raw, got both"));
    }
    let elements = split(&bytes, count)
        .map_err(|what| Error::invalid(format!("{RAW}[0]"), format!("tensor 'text' {what}")))?;
    Ok(("raw_input_contents[0]", elements, true))
}

/// The size of a shape `[n]` or `[n, 1]`; the error says what is wrong with it.
fn count(shape: &[i64]) -> Result<usize, String> {
    let (&[n] | &[n, 1]) = shape else {
        let mut got = format!("{:?}", &shape[..shape.len().min(8)]);
        if shape.len() > 8 {
            got = format!("{} dimensions", shape.len());
        }
        return Err(format!("tensor 'text' must have the shape [n] or [n, 1], got {got}"));
    };
    usize::try_from(n)
        .ok()
        .filter(|&n| n <= MAX_TEXTS)
        .ok_or_else(|| format!("tensor 'text' must hold 0 to {MAX_TEXTS} texts, got {n}"))
}

/// Cuts raw bytes into strings, each behind its length. Never more than one over `limit`, so that what is allocated does
/// not hang on what a client claims.
fn split(mut bytes: &[u8], limit: usize) -> Result<Vec<Vec<u8>>, String> {
    let whole = bytes.len();
    let mut elements = Vec::new();
    while !bytes.is_empty() && elements.len() <= limit {
        let at = whole - bytes.len();
        let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else {
            return Err(format!(
                "ends within the length of element {}, at byte {at} of {whole}",
                elements.len()
            ));
        };
        let length = u32::from_le_bytes(*length) as usize;
        let Some((element, rest)) = rest.split_at_checked(length) else {
            return Err(format!(
                "gives element {} a length of {length} bytes at byte {at}, where {} are left",
                elements.len(),
                rest.len()
            ));
        };
        elements.push(element.to_vec());
        bytes = rest;
    }
    Ok(elements)
}

/// Refuses parameters that would make the answer another one than is given.
fn refuse_parameters(
    violations: &mut Violations,
    field: &str,
    tensor: &str,
    parameters: &HashMap<String, InferParameter>,
) {
    let mut refused: Vec<_> = parameters
        .keys()
        .filter(|name| name.starts_with("shared_memory_") || *name == "classification")
        .collect();
    refused.sort_unstable();
    if let Some(name) = refused.first() {
        let description =
            format!("tensor '{}' cannot have the parameter '{}' here", shown(tensor), shown(name));
        violations.add(format!("{field}.parameters"), description);
    }
}

/// An output as it is sent: the tensor and, where the answer is raw, its bytes apart.
pub(super) fn encode(
    output: Output,
    shape: Vec<i64>,
    elements: Elements,
    raw: bool,
) -> (InferOutputTensor, Option<Vec<u8>>) {
    let (contents, bytes) = match (raw, elements) {
        (true, elements) => (None, Some(join(&elements))),
        (false, Elements::Bytes(strings)) => {
            let bytes_contents = strings.into_iter().map(String::into_bytes).collect();
            (Some(InferTensorContents { bytes_contents, ..InferTensorContents::default() }), None)
        }
        (false, Elements::Fp32(fp32_contents)) => {
            (Some(InferTensorContents { fp32_contents, ..InferTensorContents::default() }), None)
        }
    };
    let tensor = InferOutputTensor {
        name: output.name().into(),
        datatype: output.datatype().into(),
        shape,
        parameters: HashMap::new(),
        contents,
    };
    (tensor, bytes)
}

fn join(elements: &Elements) -> Vec<u8> {
    match elements {
        Elements::Bytes(strings) => strings
            .iter()
            // Names of classes have at most 128 bytes.
            .flat_map(|string| (string.len() as u32).to_le_bytes().into_iter().chain(string.bytes()))
            .collect(),
        Elements::Fp32(numbers) => numbers.iter().flat_map(|number| number.to_le_bytes()).collect(),
    }
}

/// A parameter that is a string.
pub(super) fn string(value: String) -> InferParameter {
    InferParameter { parameter_choice: Some(ParameterChoice::StringParam(value)) }
}

/// A parameter that is a number.
pub(super) fn number(value: i64) -> InferParameter {
    InferParameter { parameter_choice: Some(ParameterChoice::Int64Param(value)) }
}

/// The beginning of what a client sent, fit for a message.
fn shown(text: &str) -> String {
    text.chars().take(64).collect::<String>().escape_debug().to_string()
}

#[cfg(test)]
mod tests;
