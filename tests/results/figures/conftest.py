import matplotlib.figure
import pytest


@pytest.fixture
def saved_figures(monkeypatch):
    """Collects the figures that the test saves, to look at what they show."""
    figures = []
    save = matplotlib.figure.Figure.savefig

    def savefig(self, *args, **kwargs):
        figures.append(self)
        return save(self, *args, **kwargs)

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", savefig)
    return figures
