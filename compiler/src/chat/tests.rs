//! Templates in the manner of the common families, written here, and faults that name their line.

use super::*;

fn config(json: &str) -> TokenizerConfig {
    TokenizerConfig::from_bytes(json.as_bytes()).unwrap()
}

fn rendered(template: &str, messages: &[(&str, &str)]) -> Result<String, Diagnostic> {
    let tokens = config(r#"{"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": false}}"#);
    let values: Vec<Value> = messages.iter().map(|(role, content)| message(role, content)).collect();
    ChatTemplate::new("t.jinja", template, &tokens)?.render(&values)
}

#[test]
fn chatml_is_written() {
    let template = "{% for message in messages %}\n    {{- '<|im_start|>' + message.role + '\\n' + message['content'] | trim + '<|im_end|>\\n' }}\n{%- endfor %}\n{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n{%- endif %}";
    let text = rendered(template, &[("system", "Be brief."), ("user", " Hello ")]).unwrap();
    assert_eq!(
        text,
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    );
}

#[test]
fn variables_of_the_user_come_first() {
    let template =
        "{{ bos_token }}{% if thinks is defined and not thinks %}<quiet>{% endif %}{{ tools | length }}";
    let tokens = config(r#"{"bos_token": "<s>"}"#);
    let read = |json: &str| ChatTemplate::new("t", template, &tokens)?.with_variables(json)?.render(&[]);
    assert_eq!(read(r#"{"thinks": false, "tools": [1, 2]}"#).unwrap(), "<s><quiet>2");
    assert_eq!(read(r#"{"bos_token": "x", "tools": []}"#).unwrap(), "x0");
    assert!(read("[1]").unwrap_err().what.contains("variables"));
}

#[test]
fn python_methods_and_loop_controls_work() {
    let template = "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{% continue %}{% endif %}{% if m.content.startswith('/') %}{{ m.content.strip().split(' ')[-1].upper() }}{% else %}{{ m.get('content', '').rstrip() }}{% endif %}{{ eos_token }}{% endfor %}{% if tools is none %}!{% endif %}{{ unknown }}";
    assert_eq!(rendered(template, &[("system", "x"), ("user", "/a b ")]).unwrap(), "<s>B</s>!");
}

#[test]
fn generation_marks_are_passed_over() {
    let template = "a\n{% generation %}\n{{ messages[0].content }}\n{%- endgeneration -%}\n  z";
    assert_eq!(rendered(template, &[("user", "b")]).unwrap(), "a\nbz");
}

#[test]
fn json_is_written_as_python_does() {
    let messages =
        messages_from_json("m", r#"[{"role": "user", "z": [1, 2.5, null, true], "a": {"b": "<é>"}}]"#);
    let template = ChatTemplate::new("t", "{{ messages[0] | tojson }}", &TokenizerConfig::default()).unwrap();
    assert_eq!(
        template.render(&messages.unwrap()).unwrap(),
        r#"{"role": "user", "z": [1, 2.5, null, true], "a": {"b": "<é>"}}"#
    );
    let indented = rendered("{{ messages | tojson(indent=2) }}", &[("user", "x")]).unwrap();
    assert!(indented.starts_with("[\n  {\n    \"role\": \"user\""), "{indented}");
}

#[test]
fn faults_name_the_line() {
    let syntax = rendered("a\nb\n{% if %}", &[]).unwrap_err();
    assert!(syntax.what.starts_with("t.jinja, line 3: "), "{syntax}");
    let alternate = "{% for m in messages %}\n{% if m.role != 'user' %}\n{{ raise_exception('roles must alternate') }}\n{% endif %}\n{% endfor %}";
    let raised = rendered(alternate, &[("user", "a"), ("tool", "b")]).unwrap_err();
    assert!(raised.what.contains("line 3") && raised.what.contains("roles must alternate"), "{raised}");
    let dated = rendered("{{ strftime_now('%Q') }}", &[]).unwrap_err();
    assert!(dated.what.contains("line 1") && dated.what.contains("%Q"), "{dated}");
}

#[test]
fn templates_are_found_by_name() {
    let several = config(
        r#"{"chat_template": [{"name": "default", "template": "D"}, {"name": "tool_use", "template": "T"}]}"#,
    );
    let text = |jinja: Option<&[u8]>, config: &TokenizerConfig, name| {
        ChatTemplate::find(jinja, config, name).and_then(|template| template.render(&[]))
    };
    assert_eq!(text(None, &several, None).unwrap(), "D");
    assert_eq!(text(None, &several, Some("tool_use")).unwrap(), "T");
    assert_eq!(text(Some(b"J"), &several, None).unwrap(), "J");
    assert!(text(None, &several, Some("other")).unwrap_err().what.contains("default, tool_use"));
    assert!(text(None, &config("{}"), None).unwrap_err().what.contains("no chat template"));
    assert_eq!(text(None, &config(r#"{"chat_template": "S"}"#), None).unwrap(), "S");
    assert!(TokenizerConfig::from_bytes(br#"{"chat_template": 3}"#).is_err());
}

#[test]
fn messages_are_checked() {
    let fault = |text: &str| messages_from_json("m.json", text).unwrap_err().what;
    assert!(fault("[\n{\"role\":}]").contains("line 2"));
    assert!(fault(r#"[{"role": "user"}, {"content": "x"}]"#).contains("message 1"));
    assert!(fault("[]").contains("no message"));
}
