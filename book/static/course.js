// What the pages do by themselves. Every part stands alone; without scripts the text stays whole.
"use strict";

/* Search: an excerpt is the sentence that was found, not the buttons above the article. */
(() => {
  if (typeof Search === "undefined") return;
  const LEFT_OUT = "script, style, .headerlink, .bd-header-article, .badge-line, form.prediction, "
    + ".prev-next-footer, .explore-control, details.hide";
  const CODE = "div.cell_input, div.highlight";

  // The words of a page or of a part of it, with or without its code.
  function wordsOf(markup, anchor, leftOut) {
    const page = new DOMParser().parseFromString(markup, "text/html");
    const article = page.querySelector("article") || page.querySelector("[role='main']");
    if (!article) return "";
    article.querySelectorAll(leftOut).forEach(node => node.remove());
    article.querySelectorAll(".math").forEach(node => {
      node.textContent = node.textContent.replace(/\\[()[\]]/g, "");
    });
    const part = (anchor && article.querySelector(anchor)) || article;
    return part.textContent.replace(/\s+/g, " ").trim();
  }

  Search.htmlToText = (markup, anchor) => wordsOf(markup, anchor, LEFT_OUT);

  Search.makeSearchSummary = (markup, words, anchor) => {
    const escaped = [...words].map(word => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|");
    const pattern = new RegExp(`(?<![\\w])(${escaped})`, "i");
    let text = wordsOf(markup, anchor, `${LEFT_OUT}, ${CODE}`);
    if (!pattern.test(text)) text = Search.htmlToText(markup, anchor);
    if (!text) return null;
    const found = Math.max(text.search(pattern), 0);
    // Begin where the sentence begins, if that is near.
    const ends = [...text.slice(Math.max(found - 160, 0), found).matchAll(/[.?!:] /g)].pop();
    const near = Math.max(found - 160, 0) + (ends ? ends.index + 2 : 0);
    const start = near === 0 || ends ? near : text.indexOf(" ", near) + 1;
    const end = start + 260 < text.length ? text.lastIndexOf(" ", start + 260) : text.length;
    const summary = document.createElement("p");
    summary.className = "context";
    if (start > 0) summary.append("… ");
    text.slice(start, end).split(pattern).forEach((piece, i) => {
      if (i % 2 === 0) { summary.append(piece); return; }
      const mark = document.createElement("mark");
      mark.textContent = piece;
      summary.append(mark);
    });
    if (end < text.length) summary.append(" …");
    return summary;
  };
})();

/* The contents list: the entry of the last heading above a third of the screen is current. */
(() => {
  // Bootstrap's own waits until a tenth of a section is visible: never, where sections are tall.
  document.body.removeAttribute("data-bs-spy");
  const sidebar = document.querySelector(".bd-sidebar-secondary");
  const entries = [...document.querySelectorAll(".page-toc a[href^='#']")]
    .map(link => ({link, target: document.getElementById(decodeURIComponent(link.hash.slice(1)))}))
    .filter(entry => entry.target);
  if (!entries.length) return;
  let current = null;

  function update() {
    const line = innerHeight / 3;
    let found = null;
    for (const entry of entries) {
      if (entry.target.getBoundingClientRect().top <= line) found = entry;
    }
    const atEnd = innerHeight + scrollY >= document.documentElement.scrollHeight - 2;
    if (atEnd && scrollY > 0) found = entries[entries.length - 1];
    if (found === current) return;
    current = found;
    for (const {link} of entries) {
      link.classList.remove("active");
      link.closest("li")?.classList.remove("active");
      link.removeAttribute("aria-current");
    }
    if (!found) return;
    found.link.setAttribute("aria-current", "location");
    for (let item = found.link.closest("li"); item; item = item.parentElement.closest("li")) {
      item.classList.add("active");  // opens the list of what stands in it, before it is measured
      item.querySelector(":scope > a").classList.add("active");
    }
    // Keep the entry in sight in a list that is taller than the screen.
    if (sidebar && sidebar.scrollHeight > sidebar.clientHeight) {
      const [inner, outer] = [found.link, sidebar].map(node => node.getBoundingClientRect());
      if (inner.top < outer.top + 60 || inner.bottom > outer.bottom - 60) {
        sidebar.scrollTop += inner.top - outer.top - outer.height / 3;
      }
    }
  }

  let waiting = false;
  const soon = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; update(); });
  };
  addEventListener("scroll", soon, {passive: true});
  addEventListener("resize", soon);
  addEventListener("load", soon);
  update();
})();

/* Paper is white: the light theme prints, whatever is on the screen; folds print open. */
(() => {
  const root = document.documentElement, media = matchMedia("print");
  let shown = null;
  const before = () => {
    if (shown !== null) return;
    shown = root.dataset.theme;
    root.dataset.theme = "light";
  };
  const after = () => {
    if (shown === null) return;
    root.dataset.theme = shown;
    shown = null;
  };
  addEventListener("beforeprint", before);
  addEventListener("afterprint", after);
  media.addEventListener("change", event => (event.matches ? before() : after()));
})();

/* Wide pictures keep a readable size on a narrow screen, and scroll there. */
(() => {
  const wrap = image => {
    if (image.naturalWidth < 500 || image.closest(".picture, .chapters")) return;
    const frame = document.createElement("div");
    frame.className = "picture";
    frame.style.setProperty("--natural", `${image.naturalWidth}px`);
    image.replaceWith(frame);
    frame.append(image);
  };
  for (const image of document.querySelectorAll(".bd-article img")) {
    if (image.complete) wrap(image);
    else image.addEventListener("load", () => wrap(image), {once: true});
  }
})();

/* What scrolls sideways says so: an attribute, by which the style sheet fades its edge. */
(() => {
  const SCROLLS = ".picture, mjx-container[display='true'], .pst-scrollable-table-container, "
    + ".cell_output .output, .highlight pre";
  const look = node => {
    node.toggleAttribute("data-more", node.scrollLeft + node.clientWidth < node.scrollWidth - 2);
    // The keyboard must reach it too: arrow keys scroll what has the focus.
    if (node.matches(".picture")) {
      if (node.scrollWidth > node.clientWidth + 2) node.tabIndex = 0;
      else node.removeAttribute("tabindex");
    }
  };
  const lookAtAll = () => document.querySelectorAll(".bd-article").forEach(article =>
    article.querySelectorAll(SCROLLS).forEach(node => {
      if (!node.dataset.watched) {
        node.dataset.watched = "";
        node.addEventListener("scroll", () => look(node), {passive: true});
      }
      look(node);
    }));
  addEventListener("resize", lookAtAll);
  addEventListener("load", async () => {
    await window.MathJax?.startup?.promise;
    lookAtAll();
  });
})();

/* Predictions: the form compares as `check` does in the notebook, and gives the same hints. */
(() => {
  const STEPS = [[1.02, "2 %"], [1.1, "10 %"], [2, "a factor of 2"], [10, "a factor of 10"]];
  const near = (a, b, {rtol, atol}) =>
    Math.abs(a - b) <= Math.max(rtol * Math.max(Math.abs(a), Math.abs(b)), atol);

  // "8192", "8,192", "0,5", "1e-3", "1/3"
  function number(text) {
    let plain = text.trim().replace(/[\s_]/g, "").replace("−", "-");
    if (/^-?\d{1,3}(,\d{3})+(\.\d+)?$/.test(plain)) plain = plain.replaceAll(",", "");
    else plain = plain.replace(",", ".");
    const parts = plain.split("/");
    const bad = parts.some(part => part === "" || Number.isNaN(Number(part)));
    if (bad || parts.length > 2) return NaN;
    return parts.length === 2 ? Number(parts[0]) / Number(parts[1]) : Number(plain);
  }

  // The side, and roughly the distance, but not the answer.
  function howFar(answer, right) {
    const side = answer > right ? "too high" : "too low";
    if (answer * right <= 0) return side;
    const factor = Math.max(answer / right, right / answer);
    const limit = STEPS.find(([most]) => factor <= most);
    return `${side}, by ${limit ? `less than ${limit[1]}` : "more than a factor of 10"}`;
  }

  function paragraph(markup) {
    const p = document.createElement("p");
    p.innerHTML = markup;  // made by the build, never by the reader
    return p;
  }

  for (const form of document.querySelectorAll("form.prediction")) {
    const data = JSON.parse(form.dataset.prediction);
    const isChoice = typeof data.right === "string";
    const same = (a, b) => isChoice
      ? String(a).trim().toLowerCase() === String(b).trim().toLowerCase() : near(a, b, data);
    const reply = form.querySelector(".reply");
    let given = 0;
    form.addEventListener("submit", event => {
      event.preventDefault();
      const said = new FormData(form).get("answer");
      const answer = isChoice ? said : number(said);
      const lines = [];
      let state = "wrong";
      if (!isChoice && !Number.isFinite(answer)) {
        lines.push("Write one number, such as 0.5, 1/3 or 2e-4.");
      } else if (same(answer, data.right)) {
        state = "right";
        const exactly = isChoice || answer === data.right;
        lines.push(exactly ? `✓ Right: ${data.right}.`
          : `✓ Near enough: it is ${Number(data.right.toPrecision(6))}.`);
        lines.push("The solution below says why.");
      } else {
        const side = isChoice ? "not what happens" : howFar(answer, data.right);
        const mistake = data.mistakes.find(([wrong]) => same(answer, wrong));
        lines.push(`✗ That is ${side}.`);
        if (mistake) lines.push(`This is what you get when ${mistake[1]}`);
        else if (given < data.hints.length) {
          lines.push(`Hint ${given + 1} of ${data.hints.length}: ${data.hints[given]}`);
          given += 1;
        } else lines.push("There are no more hints; the solution is below.");
      }
      reply.dataset.state = state;
      reply.replaceChildren(...lines.map(paragraph));
    });
  }
})();
