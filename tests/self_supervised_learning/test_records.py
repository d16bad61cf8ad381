"""What the chapter's prose says of the outputs recorded on a GPU is what they say."""

import re
from pathlib import Path

import pytest

from dlcourse.build.records import gpu_cells, read_record, source_digest
from dlcourse.build.sources import read_source

CHAPTER = Path(__file__).parents[2] / "chapters/120_self_supervised_learning"
STEMS = ["1a_contrastive", "1b_dino", "1c_simmim", "2_masked_autoencoders"]


def printed(stem, cell):
    """What a recorded cell printed, as lines."""
    outputs = read_record(CHAPTER / f"{stem}.gpu.json").cells[cell].outputs
    text = "".join(o["text"] for o in outputs if o["output_type"] == "stream")
    return text.splitlines()


def row(lines, name):
    """The numbers of the only line that begins with a name, those behind ± left out."""
    (line,) = [line for line in lines if line.strip().startswith(name)]
    return [float(v) for v in re.findall(r"(?<![±\d.])\s(\d+(?:\.\d+)?)", line[len(name) :])]


def means(lines, name):
    """The means of a row of "mean ± deviation"."""
    (line,) = [line for line in lines if line.strip().startswith(name)]
    return [float(v) for v in re.findall(r"(\d+(?:\.\d+)?)\s*±", line)]


def says(stem, sentence):
    """Whether the prose of a page has this, however its lines are broken."""
    cells = read_source(CHAPTER / f"{stem}.py").cells
    prose = " ".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return " ".join(sentence.split()) in " ".join(prose.split())


@pytest.mark.parametrize("stem", STEMS)
def test_every_gpu_cell_is_recorded_as_it_stands(stem):
    record = read_record(CHAPTER / f"{stem}.gpu.json")
    cells = gpu_cells(read_source(CHAPTER / f"{stem}.py"))
    assert cells and set(cells) == set(record.cells)
    for name, cell in cells.items():
        assert record.cells[name].source_sha256 == source_digest(cell["source"]), name


def test_simclr_with_forty_labels_tells_the_texture_and_not_the_hue():
    table = printed("1a_contrastive", "augmentations")
    columns = [(f, n) for f in ("shape", "hue", "texture") for n in (1, 10, 100)]
    rows = {
        name: dict(zip(columns, means(table, name), strict=True))
        for name in ("raw pixels", "crop + colour", "crop only", "supervised")
    }
    simclr, labels = rows["crop + colour"], rows["supervised"]
    assert round(simclr["texture", 1]) == 97 and round(labels["texture", 1]) == 50
    assert round(rows["raw pixels"]["texture", 1]) == 27
    assert round(simclr["hue", 1]) == 18 and abs(simclr["hue", 1] - 100 / 6) < 2
    assert round(rows["crop only"]["hue", 1]) == 89 and round(rows["crop only"]["texture", 1]) == 38
    assert (round(simclr["shape", 10]), round(labels["shape", 10])) == (47, 43)
    assert (round(simclr["shape", 100]), round(labels["shape", 100])) == (60, 94)

    pixels, crops = rows["raw pixels"], rows["crop only"]
    texture, told = simclr["texture", 1], labels["texture", 1]
    assert says("0_overview", f"tells the texture in **{texture:.0f} %** of the cases.")
    assert says("0_overview", f"labels alone: {told:.0f} %. Pixels: {pixels['texture', 1]:.0f} %.")
    assert says("0_overview", f"tell the hue in {simclr['hue', 1]:.0f} % of the cases")
    kept, lost = crops["hue", 1], crops["texture", 1]
    assert says("0_overview", f"the hue in {kept:.0f} % and the texture in {lost:.0f} %.")
    assert says("1a_contrastive", f"tell the texture in {texture:.0f} % of the cases")
    assert says("1a_contrastive", f"on these labels alone tells it in {told:.0f} %")
    few, scratch = simclr["shape", 10], labels["shape", 10]
    assert says("1a_contrastive", f"in {few:.0f} % of the cases with 400 labels")
    assert says("1a_contrastive", f"as well as by supervision ({scratch:.0f} %)")
    most, ours = labels["shape", 100], simclr["shape", 100]
    assert says("1a_contrastive", f"supervision is far ahead ({most:.0f} % to {ours:.0f} %)")


def test_a_small_batch_that_sees_as_many_images_does_better_than_the_large_one():
    table = printed("1a_contrastive", "temperature-and-batch")
    (longer,) = [line for line in table if "as many images" in line]
    longer = float(re.search(r"(\d+\.\d) ±", longer).group(1))
    grid = [[float(v) for v in re.findall(r"(\d+\.\d) ±", line)] for line in table]
    small, middle, large = [values for values in grid if len(values) == 4]
    assert longer > middle[1] > small[1]
    assert min(map(min, zip(middle, large))) == middle[3] and middle[3] > small[3]
    assert max(middle) == middle[1] and max(large) == large[1]
    assert all(values[3] == min(values) for values in (small, middle, large))
    assert all(b > a for a, b in zip(small, middle)) and all(b > a for a, b in zip(middle, large))
    assert max(small[:3]) - min(small[:3]) < 2


def test_one_of_dinos_heads_looks_at_the_shape():
    lines = printed("1b_dino", "attention")
    values = {line.rpartition(":")[0]: line.rpartition(":")[2] for line in lines}
    area = float(values["share of the area that the shape covers"])
    assert round(area, 2) == 0.13
    for state in ("untrained", "trained"):
        heads = values[f"share of each head's attention on it, {state}"].split(",")
        heads = [float(v) for v in heads]
        if state == "untrained":
            assert max(heads) < area + 0.03
        else:
            assert round(max(heads), 2) == 0.54
            assert says("0_overview", f"The shape covers {100 * area:.0f} % of the picture")
            assert says("0_overview", f"gives it {100 * max(heads):.0f} % of the class token's")


def test_the_dinov2_step_is_faster_than_transformers_compiled_likewise():
    table = printed("1b_dino", "dinov2-step")
    speed = {
        name: row(table, f"{name}, bfloat16")[0]
        for name in ("transformers", "transformers compiled", "eager", "compiled", "crop by crop")
    }
    assert speed["compiled"] / speed["transformers compiled"] > 1.1
    assert speed["eager"] / speed["transformers"] > 1.1
    assert max(speed.values()) == speed["compiled"] and min(speed.values()) == speed["crop by crop"]


def test_simmims_small_blocks_teach_the_texture_and_help_fine_tuning_most():
    lines = printed("1c_simmim", "ratio-and-block")
    kinds = [f"{r:<7}{b:<7}pixels" for b in (4, 8) for r in (0.4, 0.6, 0.8)]
    kinds += [f"{r:<7}16     pixels" for r in (0.4, 0.6)]
    kinds += ["0.6    4      normalised", "0.6    8      normalised"]
    table = {kind: means(lines, kind) for kind in kinds}  # shape, hue, texture, 1 %, 10 %
    random = means(lines, "random / scratch")
    assert random[2] == 55 and random[4] == 16
    textures = [values[2] for values in table.values()]
    assert (min(textures), max(textures)) == (63, 76) == (min(textures), table[kinds[0]][2])
    assert all(abs(values[3] - 100 / 8) <= 2 for values in [random, *table.values()])
    assert max(table, key=lambda kind: table[kind][4]) == "0.6    4      pixels"
    assert table["0.6    4      pixels"][4] == 29
    low, high = min(textures), max(textures)
    assert says("1c_simmim", f"{low:.0f} to {high:.0f} %, against {random[2]:.0f} % for random")
    best = table["0.6    4      pixels"][4]
    reached = f"reaches {random[4]:.0f} %, and the best of the pre-trained ones {best:.0f} ± 8 %"
    assert says("1c_simmim", reached)


def test_the_masked_autoencoder_beats_transformers_by_more_than_a_tenth():
    lines = printed("2_masked_autoencoders", "throughput")
    (ratio,) = [line for line in lines if line.startswith("best of ours")]
    assert float(ratio.rpartition(":")[2]) == 1.17
    for how in ("float32 (TF32)", "bfloat16", "bfloat16, compiled"):
        ours, theirs = (row(lines, f"{name}, {how} ")[0] for name in ("ours", "transformers"))
        assert ours > theirs, how
    first, _, most, _ = [[float(v) for v in line.replace("%", "").split()] for line in lines[-5:-1]]
    assert round(most[1] / first[1], 1) == 1.9 and round(most[4] / first[4], 1) == 2.3
    assert most[2] < first[2]  # MFU
    page = "2_masked_autoencoders"
    assert says(page, f"ours is {float(ratio.rpartition(':')[2])} times as fast as `transformers`")
    saved, counted = most[1] / first[1], most[4] / first[4]
    assert says(page, f"masking saves a factor of {saved:.1f} where the count says {counted:.1f}")


def test_masked_autoencoders_texture_wants_a_low_ratio_and_hue_a_high_one():
    lines = printed("2_masked_autoencoders", "ratios")
    table = {}
    for name in ("untrained", "0.25", "0.5", "0.75", "0.9"):
        values = means(lines, name)
        factors = enumerate(("texture", "hue", "shape"))
        table[name] = {f: values[3 * i : 3 * i + 3] for i, f in factors}
    (few, most), (few0, most0) = (table[r]["texture"][::2] for r in ("0.5", "untrained"))
    page = "2_masked_autoencoders"
    assert says(page, f"told in {few:.0f} % of the cases at a ratio of 0.5, and in {few0:.0f} % by")
    assert says(page, f"with all labels, {most:.0f} to {most0:.0f}.")
    for share in range(3):
        low, high = (
            max(table[ratio]["texture"][share] for ratio in ratios)
            for ratios in (("0.25", "0.5"), ("0.75", "0.9"))
        )
        assert low > high
        assert max(table, key=lambda r: (table[r]["hue"][share], r)) == "0.9"
        for ratio in ("0.25", "0.5"):
            assert table[ratio]["hue"][share] < table["untrained"]["hue"][share]
    assert max(values["shape"][2] for values in table.values()) < 30


def test_the_record_of_the_step_shows_what_the_text_says():
    text = "\n".join(printed("1b_dino", "dinov2-step"))
    rows = re.findall(r"^(.*), bfloat16 +(\d+) +(\d+)%", text, re.MULTILINE)
    speed = {name: int(images) for name, images, _ in rows}
    assert speed["eager"] > 1.4 * speed["crop by crop"]  # well ahead
    assert speed["compiled"] > 1.2 * speed["eager"] > speed["eager"]
    assert speed["transformers compiled"] > 1.2 * speed["transformers"]
    assert 1.1 < speed["compiled"] / speed["transformers compiled"] < 1.25  # comes near
    assert max(int(peak) for *_, peak in rows) < 40  # far more than half is missing


def test_the_record_of_the_attention_shows_what_the_text_says():
    text = "\n".join(printed("1b_dino", "attention"))
    area = float(re.search(r"shape covers: ([\d.]+)", text)[1])
    untrained, trained = (
        [float(v) for v in re.search(rf" {name}: (.*)", text)[1].split(", ")]
        for name in ("untrained", "trained")
    )
    assert all(abs(share - area) < 0.04 for share in untrained)
    assert 0.4 < max(trained) < 0.65 and max(trained) > 3 * area
    assert min(trained) < area
