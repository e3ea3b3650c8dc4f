(() => {
  const tools = document.querySelector(".tools");
  const [box, button] = tools.children;
  const rows = [...document.querySelectorAll(".row")];
  const folds = [...document.querySelectorAll(".tasks details")];
  tools.hidden = false;
  box.oninput = () => {
    const wanted = box.value.trim().toLowerCase();
    for (const row of rows) row.hidden = !row.firstElementChild.textContent.toLowerCase().includes(wanted);
    if (wanted) for (const fold of folds) if (fold.matches(".group")) fold.open = true;
  };
  let open = true;
  button.onclick = () => {
    for (const fold of folds) fold.open = open;
    open = !open;
    button.textContent = open ? "Unfold all" : "Fold all";
  };
  const reveal = () => {
    const goal = document.getElementById(location.hash.slice(1));
    for (let at = goal; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
    if (goal) goal.scrollIntoView({ block: "center" });
  };
  addEventListener("hashchange", reveal);
  reveal();
})();
