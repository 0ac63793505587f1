// Filters and orders the questions; without it the page shows all of them.
const form = document.querySelector("#filters");
const list = document.querySelector("main");
const articles = [...list.children];
const arms = [...form.sort.options].map((option) => option.value).filter((value) => value && value !== "*");
for (const article of articles) {
  article.scores = article.dataset.scores.split(",").map(Number);
  article.words = article.textContent.toLowerCase();
}
const spread = (article) => Math.max(...article.scores) - Math.min(...article.scores);
function apply() {
  const text = form.text.value.trim().toLowerCase();
  let shown = 0;
  for (const article of articles) {
    const fits =
      (!text || article.words.includes(text)) &&
      (!form.category.value || article.dataset.category === form.category.value) &&
      (!form.kind.value || article.dataset.kind === form.kind.value);
    article.hidden = !fits;
    shown += fits;
  }
  const ordered = [...articles];
  const order = form.sort.value;
  if (order === "*") ordered.sort((one, other) => spread(other) - spread(one));
  else if (order) ordered.sort((one, other) => one.scores[arms.indexOf(order)] - other.scores[arms.indexOf(order)]);
  list.append(...ordered);
  list.classList.toggle("plain", !form.marks.checked);
  form.querySelector("output").value = `${shown} of ${articles.length}`;
}
form.addEventListener("input", apply);
form.addEventListener("submit", (event) => event.preventDefault());
apply();
