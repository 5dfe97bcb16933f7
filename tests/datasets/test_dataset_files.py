from duodiff_pipeline.datasets.files import MarkdownPage


def test_a_page_links_its_figures_in_a_folder_of_its_name(tmp_path):
    dataset = MarkdownPage(str(tmp_path / "results" / "mine.md"))
    page = (
        "# Title\n\n![All](figures/all.svg) and ![few](figures/few.svg)\n",
        {"all": "<svg>1</svg>", "few": "<svg/>"},
    )
    dataset.save(page)
    assert dataset.load() == page
    text = (tmp_path / "results" / "mine.md").read_text()
    assert "](mine/all.svg)" in text
    assert (tmp_path / "results" / "mine" / "all.svg").read_text() == "<svg>1</svg>"
    assert dataset.paths == [tmp_path / "results" / "mine.md", tmp_path / "results" / "mine"]
