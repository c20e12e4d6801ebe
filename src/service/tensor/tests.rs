use super::*;

fn request(shape: &[i64], contents: &[&str]) -> ModelInferRequest {
    let bytes_contents = contents.iter().map(|text| text.as_bytes().to_vec()).collect();
    let input = InferInputTensor {
        name: "text".into(),
        datatype: "BYTES".into(),
        shape: shape.to_vec(),
        contents: Some(InferTensorContents { bytes_contents, ..Default::default() }),
        ..Default::default()
    };
    ModelInferRequest { inputs: vec![input], ..Default::default() }
}

fn raw(shape: &[i64], bytes: &[u8]) -> ModelInferRequest {
    let mut request = request(shape, &[]);
    request.inputs[0].contents = None;
    request.raw_input_contents = vec![bytes.to_vec()];
    request
}

fn joined(strings: &[&str]) -> Vec<u8> {
    join(&Elements::Bytes(strings.iter().map(|s| (*s).to_owned()).collect()))
}

fn assert_refused(request: ModelInferRequest, field: &str, part: &str) {
    match texts(request).unwrap_err() {
        Error::Invalid(found) => {
            let hit = found.iter().any(|v| v.field == field && v.description.contains(part));
            assert!(hit, "no violation of {field} with {part:?} in {found:?}");
        }
        other => panic!("{other}"),
    }
}

#[test]
fn typed_and_raw_texts_are_the_same() {
    for shape in [&[2][..], &[2, 1]] {
        let typed = texts(request(shape, &["取款", "hi"])).unwrap();
        assert_eq!((typed.texts.as_slice(), typed.raw), (&["取款".to_owned(), "hi".to_owned()][..], false));
        let raw = texts(raw(shape, &joined(&["取款", "hi"]))).unwrap();
        assert_eq!(raw, Texts { raw: true, ..typed });
    }
    assert!(texts(request(&[0], &[])).unwrap().texts.is_empty());
    assert!(texts(raw(&[0], &[])).unwrap().texts.is_empty());
}

#[test]
fn wrong_tensors_are_named_with_what_is_wrong() {
    let change = |change: fn(&mut InferInputTensor)| {
        let mut request = request(&[1], &["hi"]);
        change(&mut request.inputs[0]);
        request
    };
    assert_refused(ModelInferRequest::default(), "inputs", "got 0");
    assert_refused(change(|input| input.name = "INPUT0".into()), "inputs[0].name", "got 'INPUT0'");
    assert_refused(change(|input| input.datatype = "FP32".into()), "inputs[0].datatype", "got 'FP32'");
    for (shape, part) in [
        (&[][..], "got []"),
        (&[1, 2], "got [1, 2]"),
        (&[1, 1, 1], "got [1, 1, 1]"),
        (&[-1], "got -1"),
        (&[257], "got 257"),
        (&[i64::MAX, 1], "got 9223372036854775807"),
        (&[1; 100], "100 dimensions"),
    ] {
        assert_refused(request(shape, &["hi"]), "inputs[0].shape", part);
    }
    assert_refused(request(&[2], &["hi"]), "inputs[0].contents", "has 1 elements, its shape [2] takes 2");
    assert_refused(request(&[2], &["hi", " "]), "inputs[0].contents[1]", "blank");
    let mut bad = request(&[1], &[""]);
    bad.inputs[0].contents.as_mut().unwrap().bytes_contents[0] = b"a\xff".to_vec();
    assert_refused(bad, "inputs[0].contents[0]", "byte 1 is not");
    let mut both = raw(&[1], &joined(&["hi"]));
    both.inputs[0].contents = request(&[1], &["hi"]).inputs[0].contents.clone();
    assert_refused(both, "inputs[0].contents", "got both");
    let mut two = raw(&[1], &joined(&["hi"]));
    two.raw_input_contents.push(Vec::new());
    assert_refused(two, "raw_input_contents", "got 2 tensors");
    let shared = change(|input| {
        input.parameters.insert("shared_memory_region".into(), string("there".into()));
        input.parameters.insert("content_type".into(), string("str".into()));
    });
    assert_refused(shared, "inputs[0].parameters", "'shared_memory_region'");
}

#[test]
fn lengths_that_lie_are_refused_and_cost_nothing() {
    let field = "raw_input_contents[0]";
    assert_refused(raw(&[1], &[2, 0, 0]), field, "ends within the length of element 0, at byte 0 of 3");
    assert_refused(
        raw(&[1], &[3, 0, 0, 0, b'h', b'i']),
        field,
        "a length of 3 bytes at byte 0, where 2 are left",
    );
    assert_refused(raw(&[1], &[255; 4]), field, "a length of 4294967295 bytes at byte 0, where 0 are left");
    let mut after = joined(&["hi"]);
    after.extend([1, 0, 0, 0]);
    assert_refused(
        raw(&[2], &after),
        field,
        "gives element 1 a length of 1 bytes at byte 6, where 0 are left",
    );
    after.pop();
    assert_refused(raw(&[2], &after), field, "ends within the length of element 1, at byte 6 of 9");
    // A megabyte of empty strings is cut no further than the shape says, and one.
    assert_refused(raw(&[2], &[0; 1 << 20]), field, "has 3 elements, its shape [2] takes 2");
    assert_refused(raw(&[2], &joined(&["hi"])), field, "has 1 elements");
    assert_refused(raw(&[1], &joined(&[""])), "raw_input_contents[0][0]", "empty");
}

#[test]
fn outputs_are_chosen_by_name() {
    let asked = |names: &[&str]| -> Vec<InferRequestedOutputTensor> {
        let named = |name: &&str| InferRequestedOutputTensor { name: (*name).into(), ..Default::default() };
        names.iter().map(named).collect()
    };
    assert_eq!(wanted(&[]).unwrap(), [Output::Label, Output::Score]);
    let backwards = ["probabilities", "score"];
    assert_eq!(wanted(&asked(&backwards)).unwrap(), [Output::Probabilities, Output::Score]);
    for (names, part) in [
        (
            &["label", "logits"][..],
            "outputs[1].name: must be 'label', 'score' or 'probabilities', got 'logits'",
        ),
        (&["label", "label"], "outputs[1].name: 'label' is given twice"),
        (&["label"; 100], "outputs[3].name: 'label' is given twice"),
    ] {
        let error = wanted(&asked(names)).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    let mut classified = asked(&["label"]);
    classified[0].parameters.insert("classification".into(), number(3));
    assert!(wanted(&classified).unwrap_err().to_string().contains("'classification'"));
}

#[test]
fn what_is_raw_reads_back() {
    let strings = Elements::Bytes(vec!["取款".into(), String::new()]);
    let (tensor, bytes) = encode(Output::Label, vec![2], strings, true);
    assert_eq!(tensor.contents, None);
    assert_eq!(split(&bytes.unwrap(), 2).unwrap(), ["取款".as_bytes().to_vec(), Vec::new()]);
    let (_, bytes) = encode(Output::Score, vec![1], Elements::Fp32(vec![1.0]), true);
    assert_eq!(bytes.unwrap(), [0, 0, 128, 63]);
    let (tensor, bytes) = encode(Output::Score, vec![1], Elements::Fp32(vec![0.5]), false);
    assert_eq!((tensor.contents.unwrap().fp32_contents, bytes), (vec![0.5], None));
}
