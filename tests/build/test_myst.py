"""MyST becomes Markdown that JupyterLab and Colab show as it is meant; the rest is an error."""

import pytest

from dlcourse.build.myst import Context, MystError, Work, collect, flatten, heading_labels

WORKS = {
    "chen2023lion": Work("Chen et al.", "2023", "Lion", "https://doi.org/10.1/x"),
    "robbins1951": Work("Robbins and Monro", "1951", "SA", None),
}


@pytest.fixture
def context():
    return Context(
        document="chapters/119_a/2_b",
        labels={
            "sec-here": "chapters/119_a/2_b",
            "sec-there": "chapters/120_c/1_d",
            "sec-book": "book/notation",
        },
        documents={f"chapters/{name}" for name in ("119_a/2_b", "119_a/1_c", "120_c/1_d")}
        | {"book/notation"},
        works=lambda: WORKS,
        drawing=lambda path, alt: f"![{alt}](data:{path})",
    )


def plain(text, context):
    collect(text, context)
    return flatten(text, context)


@pytest.mark.parametrize(
    "myst, markdown",
    [
        ("{cite:p}`robbins1951`", "(Robbins and Monro, 1951)"),
        (
            "{cite:p}`Chen2023Lion, robbins1951`",
            "([Chen et al., 2023](https://doi.org/10.1/x); Robbins and Monro, 1951)",
        ),
        ("over {cite:p}`\nrobbins1951` lines", "over (Robbins and Monro, 1951) lines"),
        ("{ref}`see it <sec-here>`", "see it"),
        ("{ref}`the notation <sec-book>`", "the notation"),
        ("{ref}`sharding <sec-there>`", "[sharding](../120_c/1_d.ipynb)"),
        ("{doc}`the first <1_c>`", "[the first](1_c.ipynb)"),
        ("{doc}`the other\nchapter <../120_c/1_d>`", "[the other chapter](../120_c/1_d.ipynb)"),
        ("{doc}`signs </book/notation>`", "signs"),
        ("(sec-x)=\n# Title", "# Title"),
        ("(sec-x)=\n(sec-y)=\n## Title\ntext", "## Title\ntext"),
    ],
)
def test_references_and_labels(myst, markdown, context):
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
        "Costs \\$5 and \\$6 for {a} set (x){y}",
        "1. one\n   - nested\n\n   ```bash\n   ls  # {x}`y`\n   ```\n\n> quoted",
        "~~~\n:::{note}\n~~~",
        "100 %\n::: no fence\n![alt](figure.png) <b>bold</b> $$x$$ in a line",
        "- $$x$$\n  $$\n  y\n  $$",
    ],
)
def test_plain_markdown_code_and_formulas_are_left_alone(text, context):
    assert plain(text, context) == text


# --- formulas -------------------------------------------------------------------------------------


def test_labelled_equations_are_numbered_in_order_and_referred_to(context):
    text = "$$\na = b\n$$ (eq-a)\n\n$$ c $$\n\n$$ d $$ (eq-d)\n\nSee {eq}`eq-d` and {eq}`eq-a`."
    assert plain(text, context) == (
        "$$\na = b\n\\tag{1}\n$$\n\n$$\n c \n$$\n\n$$\n d \n\\tag{2}\n$$\n\nSee (2) and (1)."
    )


def test_numbers_go_on_in_the_next_cell_and_a_sentence_may_refer_forwards(context):
    collect("$$a$$ (eq-a)", context)
    collect("$$b$$ (eq-b)", context)
    assert flatten("{eq}`eq-b`\n\n$$a$$ (eq-a)", context) == "(2)\n\n$$\na\n\\tag{1}\n$$"


def test_formula_of_several_lines_is_aligned_as_the_site_does(context):
    assert plain("$$\na &= b \\\\\nc &= d\n$$", context) == (
        "$$\n\\begin{aligned}\na &= b \\\\\nc &= d\n\\end{aligned}\n$$"
    )
    aligned = "$$\n\\begin{aligned}\na &= b \\\\\n\\end{aligned}\n$$"
    assert plain(aligned, context) == aligned


# --- exercises ------------------------------------------------------------------------------------


def test_an_exercise_is_called_as_on_the_page(context):
    text = "::::{exercise} 119.2.lion: One step of Lion\n:label: ex-l\n:nonumber:\n\nWrite.\n::::"
    assert plain(text, context) == "**Exercise 119.2.lion: One step of Lion**\n\nWrite."
    assert plain(text.replace("119.2.lion", "Exercise 119.2.lion"), context) == plain(text, context)


def test_the_statement_of_an_exercise_is_made_plain_too(context):
    text = (
        "::::{exercise} $x$ of {cite:p}`robbins1951`\nSee {eq}`eq-a`.\n\n$$\na\n$$ (eq-a)\n\n"
        "```python\n# {ref}`x`\n```\n::::"
    )
    assert plain(text, context) == (
        "**Exercise $x$ of (Robbins and Monro, 1951)**\n\nSee (1).\n\n$$\na\n\\tag{1}\n$$\n\n"
        "```python\n# {ref}`x`\n```"
    )


# --- diagrams -------------------------------------------------------------------------------------

DIAGRAM = (
    ":::{diagram} figures/2_b.svg\n:alt: Two boxes\n\n"
    "The *two* boxes\nof {ref}`it <sec-here>`.\n:::"
)


def test_a_diagram_is_its_drawing_with_a_numbered_caption(context):
    assert plain(f"See {{numref}}`fig-2_b`.\n\n{DIAGRAM}", context) == (
        "See Figure 1.\n\n![Two boxes](data:figures/2_b.svg)\n\n"
        "**Figure 1.** The *two* boxes of it."
    )


def test_a_diagrams_options_may_be_a_block_with_long_lines(context):
    text = (
        ":::{diagram} figures/x.svg\n---\nname: fig-two\n"
        "alt: Two boxes: one is large,\n  another: small.\n---\nBoxes.\n:::\n{numref}`fig-two`"
    )
    assert plain(text, context) == (
        "![Two boxes: one is large, another: small.](data:figures/x.svg)\n\n"
        "**Figure 1.** Boxes.\nFigure 1"
    )


def test_a_diagram_is_numbered_among_the_figures_of_code_cells(context):
    context.figures["fig-plot"] = 1
    assert "**Figure 2.**" in plain(DIAGRAM, context)


@pytest.mark.parametrize(
    "old, new, message",
    [
        (":alt: Two boxes\n", "", "figures/2_b.svg needs an :alt:"),
        ("The *two* boxes\nof {ref}`it <sec-here>`.\n", "", "needs a caption"),
    ],
)
def test_a_diagram_without_words_is_an_error(context, old, new, message):
    with pytest.raises(MystError, match=message):
        plain(DIAGRAM.replace(old, new), context)


def test_a_drawing_that_is_not_there_or_is_none_is_named(context):
    def missing(path, alt):
        raise FileNotFoundError("no such file")

    context.drawing = missing
    with pytest.raises(MystError, match="the diagram figures/2_b.svg: no such file"):
        plain(DIAGRAM, context)


# --- what has no plain form -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, message",
    [
        ("{newrole}`x`", r"role \{newrole\}.*of roles only \{cite:p\}, \{ref\}"),
        ("{cite:t}`chen2023lion`", r"role \{cite:t\}"),
        (":::{newdirective}\nx\n:::", r"directive \{newdirective\}.*only \{diagram\} has"),
        ("```{note}\nx\n```", r"directive \{note\}"),
        ("- x\n\n  :::{exercise} E\n  x\n  :::", r"directive \{exercise\} in a list.*put it after"),
        ("{cite:p}`nobody1999`", "citation of 'nobody1999': add the work to .*references.bib"),
        ("{ref}`sec-here`", r"give it a text: \{ref\}`text <sec-here>`"),
        ("{ref}`it <sec-gone>`", "'sec-gone': the book has no such label"),
        ("{doc}`1_c`", "give it a text"),
        ("{doc}`it <gone>`", "'gone': the book has no such"),
        ("{eq}`eq-gone`", "'eq-gone', which is not in this notebook.*refer to the section"),
        ("{numref}`fig-gone`", "'fig-gone', which is not in this notebook"),
        ("a {{ substitution }}", "substitution"),
        ("![alt](x.png){width=50% .dark}", "attributes.*write Markdown without it"),
        ("[text]{.red}", "attributes"),
        ("a note[^1]", "footnote"),
        ("% a comment\ntext", "'% a comment'.*leave it out"),
        ("a\n\n+++\n\nb", "break"),
        ("- $$a$$ (eq-a)", "labelled formula.*at the start of a line"),
    ],
)
def test_what_has_no_plain_form_is_an_error_that_says_what_to_do(text, message, context):
    with pytest.raises(MystError, match=message):
        plain(text, context)


def test_what_only_the_site_shows_may_be_collected(context):
    collect(":::{newdirective}\n% a comment\n{newrole}`x`\n$$a$$ (eq-a)\n:::\n+++", context)
    assert context.equations == {"eq-a": 1}


def test_labels_of_a_page_are_those_in_lines_of_their_own_and_not_in_code():
    text = (
        "(top)=\n# Page *one*\n```python\n(no)=\n# not a title\n```\n(sec-b)=\n## Part\n"
        "a (no)= b\n:::{note}\n% any\n(in-a-box)=\n:::\n~~~\n(no)=\n~~~\n(last)=\n### End"
    )
    assert heading_labels(text) == ["top", "sec-b", "in-a-box", "last"]
