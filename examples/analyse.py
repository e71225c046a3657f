"""Analyse a table in the service: upload it, fit a model, download a chart and a spreadsheet.

    python3 examples/analyse.py [--url http://127.0.0.1:8000] [--key KEY] [--out out]

It needs only Python; pandas, scikit-learn and matplotlib run in the service.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from client import DEFAULT_URL, Client, ClientError

DATA = Path(__file__).parent / "data" / "wine.csv"

# The code that runs in the service. In your application, a model would write it.
CODE = r"""
import matplotlib.pyplot as plt
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

wines = pd.read_csv("wine.csv")
measured = wines.drop(columns="cultivar")
cultivar = wines["cultivar"]

# Each wine is classified by a model that was not trained with it (ten folds).
model = make_pipeline(StandardScaler(), LogisticRegression())
wines["predicted"] = cross_val_predict(model, measured, cultivar, cv=10)
wrong = wines["predicted"] != cultivar
right = 1 - wrong.mean()
print(f"{len(wines)} wines, {measured.shape[1]} measurements, {cultivar.nunique()} cultivars")
print(f"cultivar recognised: {right:.1%}, {wrong.sum()} wines mistaken")

# The chart: a map of the wines, and the differences between the cultivars.
scaled = StandardScaler().set_output(transform="pandas").fit_transform(measured)
pca = PCA(2)
places = pca.fit_transform(scaled)
profile = scaled.groupby(cultivar).mean().T
spread = profile.max(axis=1) - profile.min(axis=1)
profile = profile.loc[spread.sort_values(ascending=False).index]
colours = {1: "#7b2d43", 2: "#d9a441", 3: "#3d6f8e"}

plt.rcParams.update({"font.size": 11, "axes.spines.top": False, "axes.spines.right": False})
figure, (chart, table) = plt.subplots(
    1, 2, figsize=(12, 5.6), width_ratios=(1.55, 1), layout="constrained"
)
for number, colour in colours.items():
    of_it = (cultivar == number).to_numpy()
    chart.scatter(
        *places[of_it].T, s=46, color=colour, alpha=0.8, edgecolor="white", linewidth=0.6,
        label=f"Cultivar {number} ({of_it.sum()} wines)",
    )
chart.scatter(
    *places[wrong].T, s=150, facecolor="none", edgecolor="black", linewidth=1.4,
    label=f"Mistaken by the model ({wrong.sum()})",
)
share = pca.explained_variance_ratio_
chart.set(
    xlabel=f"First principal component ({share[0]:.0%} of the variance)",
    ylabel=f"Second principal component ({share[1]:.0%})",
)
chart.set_title("Each wine, by thirteen measurements", loc="left", fontsize=12)
chart.grid(color="#e6e6e6", linewidth=0.8)
chart.set_axisbelow(True)
chart.legend(frameon=False, loc="upper center", ncols=2)
chart.set_ylim(top=places[:, 1].max() + 1.5)

image = table.imshow(profile, cmap="RdBu_r", vmin=-1.5, vmax=1.5, aspect="auto")
table.set_xticks(range(3), [f"Cultivar {number}" for number in profile.columns])
names = [name.replace("_", " ").replace("od280 od315", "OD280 / OD315") for name in profile.index]
table.set_yticks(range(len(profile)), names)
table.tick_params(length=0)
table.spines[:].set_visible(False)
for row, values in enumerate(profile.to_numpy()):
    for column, value in enumerate(values.round(1) + 0.0):
        shade = "white" if abs(value) > 0.9 else "#333333"
        text = f"{value:+.1f}".replace("-", "\u2212")
        table.text(column, row, text, ha="center", va="center", color=shade, fontsize=10)
table.set_title("Difference from the mean wine, in σ", loc="left", fontsize=12)
figure.suptitle(
    f"Three cultivars of wine: {right:.0%} recognised from their chemistry",
    x=0.01, ha="left", fontsize=16, fontweight="bold",
)
figure.savefig("wine.png", dpi=120)
plt.close(figure)

# The spreadsheet: every wine, the means, and how the model did.
means = wines.drop(columns="predicted").groupby("cultivar").mean().round(2).T
confusion = pd.crosstab(cultivar, wines["predicted"])
with pd.ExcelWriter("wine.xlsx", engine="xlsxwriter") as book:
    wines.to_excel(book, sheet_name="Wines", index=False, freeze_panes=(1, 0))
    means.to_excel(book, sheet_name="Means", freeze_panes=(1, 1))
    confusion.to_excel(book, sheet_name="Model")
    for sheet in book.sheets.values():
        sheet.autofit()

means
"""


@contextmanager
def step(title: str) -> Iterator[None]:
    """Print the title of a step, and how long it took."""
    print(f"{title} ... ", end="", flush=True)
    started = time.perf_counter()
    try:
        yield
    except ClientError:
        print("failed")
        raise
    print(f"{(time.perf_counter() - started) * 1000:.0f} ms")


def analyse(client: Client, out: Path, timeout_ms: int) -> None:
    """Upload the data, run the code, and save its files in `out`."""
    print(f"Service {client.version()} at {client.url}")
    with step(f"Uploading {DATA.name}, {DATA.stat().st_size / 1000:.0f} kB"):
        data_id = client.upload(DATA)
    with step("Running the analysis"):
        inputs = [{"path": "wine.csv", "file_id": data_id}]
        result = client.execute(CODE, timeout_ms=timeout_ms, files=inputs)
    if result["error"]:
        raise ClientError(f"The code failed: {result['error']['name']}\n{result['stderr']}")
    print("\n" + "".join(f"    {line}\n" for line in result["stdout"].splitlines()))
    out.mkdir(parents=True, exist_ok=True)
    for file in result["files"]:
        target = out / Path(file["path"]).name
        with step(f"Downloading {target}, {file['size_bytes'] / 1000:.0f} kB"):
            target.write_bytes(client.download(file["file_id"]))


def main() -> None:
    """Run the example. An error is one sentence and exit code 1."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--url", default=DEFAULT_URL, help="address of the service (%(default)s)")
    arguments.add_argument("--key", default="", help="API key, if the service needs one")
    arguments.add_argument("--out", default="out", type=Path, help="folder for the files (%(default)s)")
    arguments.add_argument(
        "--timeout", default=10, type=int, metavar="SECONDS", help="time limit of the code (%(default)s)"
    )
    given = arguments.parse_args()
    try:
        analyse(Client(given.url, given.key), given.out, given.timeout * 1000)
    except ClientError as problem:
        sys.exit(str(problem))


if __name__ == "__main__":
    main()
