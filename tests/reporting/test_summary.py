from report_examples import findings

from duodiff_pipeline.metrics.reference import Floor
from duodiff_pipeline.reporting.summary import summary

PATHS = {"report": "data/08_reporting/digits/report.html", "MLflow store": "sqlite:////" + "long/" * 40 + "mlflow.db"}


def test_columns_rows_recommendation_and_paths():
    lines = summary(findings(), PATHS).splitlines()
    head = " ".join(lines[0].split() + lines[1].split())
    assert head == "GMACs seconds speed-up FID denoiser an image an image (over blocks) (95% interval)"
    assert lines[2].split() == ["deep", "ddim", "20", "0.356", "0.00400", "1", "8.20", "(7.70", "to", "8.70)"]
    assert next(line for line in lines if line.startswith("duodiff ddim")).endswith(
        "1.29 (1.22 to 1.39)     8.30 (7.73 to 8.87)"
    )
    assert next(line for line in lines if line.startswith("floor")).split()[-3:] == ["2.33", "±", "0.60"]
    text = " ".join(lines)
    assert "Switch after 7 of 20 evaluations between shallow and deep: 23% less work. With duodiff ddim 20 k=7" in text
    assert lines[-2:] == [f"{what}: {path}" for what, path in PATHS.items()]


def test_the_table_is_plain_text_of_a_terminals_width():
    lines = summary(findings(), {}).splitlines()
    assert max(map(len, lines)) <= 110
    assert all(character.isprintable() for line in lines for character in line)


def test_a_floor_at_another_n_says_so():
    assert "floor: real images at another n, 100" in summary(findings(floor=Floor((1.0, 2.0), 100)), {})
