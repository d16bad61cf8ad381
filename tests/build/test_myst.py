"""MyST becomes Markdown that JupyterLab and Colab show as it is meant."""

import pytest

from dlcourse.build.myst import Context, MystError, Target, Work, collect, flatten, scan_labels

WORKS = {
    "chen2023lion": Work("Chen et al.", "2023", "Lion", "https://doi.org/10.1/x"),
    "robbins1951": Work("Robbins and Monro", "1951", "SA", None),
}


@pytest.fixture
def context():
    return Context(
        document="chapters/119_a/2_b",
        labels={
            "sec-here": Target("Decay", "chapters/119_a/2_b"),
            "sec-there": Target("Sharding", "chapters/119_a/1_c"),
            "eq-there": Target("the equation", "chapters/119_a/1_c"),
        },
        titles={"chapters/119_a/1_c": "119.1a Infrastructure", "book/notation": "Notation"},
        works=lambda: WORKS,
    )


def plain(text, context):
    collect(text, context)
    return flatten(text, context)


@pytest.mark.parametrize(
    "myst, markdown",
    [
        ("{cite:t}`chen2023lion`", "[Chen et al. (2023)](https://doi.org/10.1/x)"),
        ("{cite:p}`robbins1951`", "(Robbins and Monro, 1951)"),
        (
            "{cite}`chen2023lion,robbins1951`",
            "([Chen et al., 2023](https://doi.org/10.1/x); Robbins and Monro, 1951)",
        ),
        ("{cite:year}`robbins1951`", "1951"),
        ("{ref}`sec-here`", "Decay"),
        ("{ref}`see it <sec-here>`", "see it"),
        ("{ref}`sec-there`", "[Sharding](1_c.ipynb)"),
        ("{eq}`eq-there`", "[the equation in “119.1a Infrastructure”](1_c.ipynb)"),
        ("{doc}`1_c`", "[119.1a Infrastructure](1_c.ipynb)"),
        ("{doc}`/book/notation`", "Notation"),
        ("{doc}`the first <1_c>`", "[the first](1_c.ipynb)"),
        ("{math}`x^2`", "$x^2$"),
        ("{py:func}`~torch.roll`", "`torch.roll`"),
        ("{kbd}`Ctrl`+{kbd}`C`", "<kbd>Ctrl</kbd>+<kbd>C</kbd>"),
        ("{abbr}`EMA (moving average)`", "EMA (moving average)"),
        ("over {cite:t}`\nrobbins1951` lines", "over Robbins and Monro (1951) lines"),
        ("![alt](x.png){width=50% .dark}", "![alt](x.png)"),
        ("(sec-x)=\n# Title", "# Title"),
        ("% a comment\ntext", "text"),
    ],
)
def test_inline_and_lines(myst, markdown, context):
    assert plain(myst, context) == markdown


@pytest.mark.parametrize(
    "text",
    [
        "``{cite}`x` `` is how to cite",
        "`{ref}` and $a_{b}$ and $\\sqrt[3]{x}$ and $\\{x\\}$",
        "```python\n# (label)=\nx = {'a': 1}  # {ref}`x`\n% magic\n```",
        "$$\n\\sum_{i} x^{{2}}\n% in a formula\n$$",
        "| a | b |\n|---|---|\n| 1 | 2 |",
        "\\begin{align}\na &= b\n\\end{align}",
        "Costs \\$5 and \\$6 for {a} set",
        "1. one\n   - nested\n\n> quoted",
        "~~~\n:::{note}\n~~~",
    ],
)
def test_plain_markdown_code_and_formulas_are_left_alone(text, context):
    assert plain(text, context) == text


def test_labelled_equations_are_numbered_in_order_and_referred_to(context):
    text = "$$\na = b\n$$ (eq-a)\n\n$$ c $$\n\n$$ d $$ (eq-d)\n\nSee {eq}`eq-d` and {eq}`eq-a`."
    assert plain(text, context) == (
        "$$\na = b\n\\tag{1}\n$$\n\n$$\n c \n$$\n\n$$\n d \n\\tag{2}\n$$\n\nSee (2) and (1)."
    )


def test_formula_of_several_lines_is_aligned_as_the_site_does(context):
    assert plain("$$\na &= b \\\\\nc &= d\n$$", context) == (
        "$$\n\\begin{aligned}\na &= b \\\\\nc &= d\n\\end{aligned}\n$$"
    )
    aligned = "$$\n\\begin{aligned}\na &= b \\\\\n\\end{aligned}\n$$"
    assert plain(aligned, context) == aligned


def test_math_directive_is_a_formula(context):
    text = "```{math}\n:label: eq-m\nx = 1\n```\n{eq}`eq-m`"
    assert plain(text, context) == "$$\nx = 1\n\\tag{1}\n$$\n(1)"


@pytest.mark.parametrize(
    "myst, markdown",
    [
        (":::{note}\nLook.\n:::", "> **Note**\n>\n> Look."),
        (
            ":::{admonition} Key idea\n:class: tip\nA {ref}`sec-here`.\n:::",
            "> **Key idea**\n>\n> A Decay.",
        ),
        ("```{tip}\nLook.\n```", "> **Tip**\n>\n> Look."),
        (
            ":::{exercise} Softmax\n:label: ex-s\n\nWrite it.\n:::",
            "**Exercise: Softmax**\n\nWrite it.",
        ),
        (":::{exercise}\nWrite it.\n:::", "**Exercise**\n\nWrite it."),
        ("before\n\n:::{solution} ex-s\nThe answer.\n:::\n\nafter", "before\n\nafter"),
        (
            "::::{tab-set}\n:::{tab-item} A\nOne.\n:::\n\n:::{tab-item} B\nTwo.\n:::\n::::",
            "**A**\n\nOne.\n\n**B**\n\nTwo.",
        ),
        ("::::{note}\n:::{tip}\nDeep.\n:::\n::::", "> **Note**\n>\n> > **Tip**\n> >\n> > Deep."),
        ("```{code-block} python\n:caption: c\nx = 1\n```", "```python\nx = 1\n```"),
        (
            ":::{note}\n```python\nx = '{ref}`y`'\n```\n:::",
            "> **Note**\n>\n> ```python\n> x = '{ref}`y`'\n> ```",
        ),
        ("```{figure} a.png\n:alt: A cat\n\nA cat sits.\n```", "![A cat](a.png)\n\n*A cat sits.*"),
        ("```{image} a.png\n:alt: A cat\n```", "![A cat](a.png)"),
        ("- item\n\n  :::{note}\n  Look.\n  :::", "- item\n\n  > **Note**\n  >\n  > Look."),
    ],
)
def test_directives(myst, markdown, context):
    assert plain(myst, context) == markdown


def test_figures_are_numbered_and_referred_to(context):
    text = "{numref}`fig-b`, {numref}`Fig. %s <fig-b>`\n\n```{figure} b.png\n:name: fig-b\nB.\n```"
    assert plain(text, context) == "Figure 1, Fig. 1\n\n![B.](b.png)\n\n**Figure 1.** B."


def test_exercises_can_be_referred_to_by_label(context):
    text = "{ref}`ex-a`\n\n:::{exercise} Softmax\n:label: ex-a\nWrite.\n:::"
    assert plain(text, context).startswith("Softmax\n")


def test_bibliography_lists_what_the_notebook_cites(context):
    text = "{cite:t}`robbins1951` {cite:t}`chen2023lion`\n\n```{bibliography}\n:filter: x\n```"
    assert plain(text, context).endswith(
        "\n\n- Chen et al. (2023). [Lion](https://doi.org/10.1/x).\n- Robbins and Monro (1951). SA."
    )


@pytest.mark.parametrize(
    "text, named",
    [
        ("{newrole}`x`", "{newrole}"),
        (":::{newdirective}\nx\n:::", "{newdirective}"),
        ("{cite:t}`nobody1999`", "nobody1999"),
        ("{ref}`sec-gone`", "sec-gone"),
        ("{eq}`eq-gone`", "eq-gone"),
        ("{doc}`gone`", "gone"),
        ("a {{ substitution }}", "{{ substitution }}"),
    ],
)
def test_what_has_no_plain_form_is_an_error_that_names_it(text, named, context):
    with pytest.raises(MystError) as error:
        plain(text, context)
    assert named in str(error.value)


def test_without_strictness_the_text_remains(context):
    context.strict = False
    assert plain("a {newrole}`word` and\n\n:::{newdirective}\nits body\n:::", context) == (
        "a word and\n\nits body"
    )


def test_labels_of_a_page_are_found_with_their_titles():
    text = (
        "(top)=\n# Page *one*\n```python\n(no)=\n# not a title\n```\n"
        "(sec-b)=\n## Part {math}`x`\n$$\na\n$$ (eq-a)\n:::{exercise} E\n:label: ex-e\n:::"
    )
    title, labels = scan_labels(text, "book/one")
    assert title == "Page *one*"
    assert {name: target.text for name, target in labels.items()} == {
        "top": "Page *one*", "sec-b": "Part x", "eq-a": "the equation", "ex-e": "ex-e",
    }  # fmt: skip


def test_tables_are_numbered_and_referred_to(context):
    text = "{numref}`tab-a`\n\n:::{table} Costs\n:name: tab-a\n\n| a |\n|---|\n| 1 |\n:::"
    assert plain(text, context) == "Table 1\n\n**Table 1.** Costs\n\n| a |\n|---|\n| 1 |"
