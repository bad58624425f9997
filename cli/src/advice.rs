//! What would be right, by rule: said where the engine knows nothing better for the place.

/// Advice for a rule of the engine, by its code.
pub fn advice(code: &str) -> Option<&'static str> {
    let text = match code {
        "template_syntax" => {
            "an expression is `{{ value }}`: names, operators and filters as in Jinja2"
        }
        "unknown_key" => "remove it, or look at the examples for the keys that this place takes",
        "unknown_target" => "name a task of this workflow, `noop` or `fail`",
        "unknown_task" => "name a task of this workflow",
        "unknown_workflow" => "name its file in the same command, or register it before",
        "misplaced_key" => "add what it belongs to, or remove it",
        "wrong_type" => "write a value of the type that is expected",
        "duplicate_name" => "give each task a name of its own",
        "duplicate_key" => "keep one of the two",
        "duplicate_target" => "name each target once",
        "missing_key" => "add it; the examples show how",
        "invalid_name" => "use letters, digits, `_` and `-`",
        "invalid_ref" => "write pack.name, as in shop.order",
        "reserved_name" => "choose another name",
        "unknown_name" => "the scopes are `parameters`, `vars`, `task`, `system` and `pack`",
        "unknown_parameter" => "declare it under `parameters`",
        "unknown_variable" | "unassigned_variable" => {
            "publish it on every path that leads here, or give it a value under `vars`"
        }
        "unknown_filter" | "unknown_test" | "unknown_function" => {
            "those of Jinja2 are there, as far as they touch nothing outside"
        }
        "unreachable_task" => "let a transition lead to it, or remove it",
        "no_start" => "leave at least one task that nothing leads to",
        "join_without_predecessor" => "remove `join`, or let a transition lead here",
        "default_not_last" => "move the default to the end",
        "not_supported" => "leave it out; a later version will have it",
        "yaml_syntax" => "look for a wrong indentation, a missing quote or a missing `:` near here",
        "unreadable" => "check the path, and whether it may be read",
        _ => return None,
    };
    Some(text)
}
