//! Pages for people in a browser: plain HTML, no scripts, nothing from elsewhere.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// `form-action` would stop a redirect after a form, so pages that send forms answer with pages.
const POLICY: &str =
    "default-src 'none'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// A page; every text that goes in is escaped.
pub(super) struct Page {
    status: StatusCode,
    title: &'static str,
    body: String,
}

impl Page {
    pub(super) fn new(status: StatusCode, title: &'static str) -> Self {
        Self { status, title, body: String::new() }
    }

    pub(super) fn text(mut self, text: &str) -> Self {
        self.body.push_str(&format!("<p>{}</p>\n", escaped(text)));
        self
    }

    pub(super) fn strong(mut self, text: &str) -> Self {
        self.body.push_str(&format!("<p><strong>{}</strong></p>\n", escaped(text)));
        self
    }

    pub(super) fn link(mut self, to: &str, text: &str) -> Self {
        self.body.push_str(&format!("<p><a href=\"{}\">{}</a></p>\n", escaped(to), escaped(text)));
        self
    }

    /// A form with hidden fields and a button for each name and value.
    pub(super) fn form(
        mut self,
        action: &str,
        hidden: &[(&str, &str)],
        buttons: &[(&str, &str, &str)],
    ) -> Self {
        self.body.push_str(&format!("<form method=\"post\" action=\"{}\">\n", escaped(action)));
        for (name, value) in hidden {
            let (name, value) = (escaped(name), escaped(value));
            self.body
                .push_str(&format!("<input type=\"hidden\" name=\"{name}\" value=\"{value}\">\n"));
        }
        for (name, value, text) in buttons {
            let (name, value, text) = (escaped(name), escaped(value), escaped(text));
            self.body
                .push_str(&format!("<button name=\"{name}\" value=\"{value}\">{text}</button>\n"));
        }
        self.body.push_str("</form>\n");
        self
    }

    /// A form that asks for one text.
    pub(super) fn question(mut self, action: &str, name: &str, label: &str) -> Self {
        let (action, name, label) = (escaped(action), escaped(name), escaped(label));
        self.body.push_str(&format!(
            "<form method=\"post\" action=\"{action}\">\n<label>{label} <input name=\"{name}\" \
             autocomplete=\"off\" autocapitalize=\"characters\" required></label>\n\
             <button>Continue</button>\n</form>\n"
        ));
        self
    }
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let Self { status, title, body } = self;
        let html = format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\">\
             <title>{title} - Corral</title></head>\n<body>\n<h1>{title}</h1>\n{body}</body>\n\
             </html>\n"
        );
        let headers = [
            (header::CONTENT_TYPE, "text/html; charset=utf-8"),
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::X_FRAME_OPTIONS, "DENY"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::CACHE_CONTROL, "no-store"),
        ];
        let headers = headers.map(|(name, value)| (name, HeaderValue::from_static(value)));
        (status, headers, html).into_response()
    }
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c if c.is_control() => {}
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_leaves_its_place() {
        let hostile = "\"><script>alert('x')</script>&\u{0}";
        let page = Page::new(StatusCode::OK, "Title")
            .text(hostile)
            .strong(hostile)
            .link(hostile, hostile)
            .form("/x", &[("a", hostile)], &[("b", hostile, hostile)])
            .question("/x", "c", hostile);
        let has_escaped =
            ["<script>", "alert('", "\u{0}"].iter().any(|part| page.body.contains(part));
        assert!(!has_escaped, "{}", page.body);
        let response = page.into_response();
        let policy = response.headers().get(header::CONTENT_SECURITY_POLICY);
        assert!(policy.is_some_and(|policy| policy.as_bytes().starts_with(b"default-src 'none'")));
    }
}
