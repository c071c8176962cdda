"use strict";
// Asks for the state once a second and draws the steps; opens the address again when there is something to see.
(() => {
  const list = document.getElementById("steps");
  const lost = document.getElementById("lost");
  const span = (name, text) => {
    const element = document.createElement("span");
    element.className = name;
    element.textContent = text;
    return element;
  };
  const draw = (step) => {
    const item = document.createElement("li");
    item.className = step.state;
    const time = step.state === "running" && step.seconds !== null ? step.seconds + " s" : "";
    item.append(span("name", step.name), span("time", time), span("detail", step.detail));
    return item;
  };
  let failures = 0;
  const ask = async () => {
    try {
      const answer = await fetch("/.maquette/status", { cache: "no-store" });
      if (answer.status >= 500) throw new Error("not now");
      const status = answer.ok ? await answer.json() : { state: "unknown" };
      if (status.state !== "starting" && status.state !== "sleeping") {
        location.reload();
        return;
      }
      failures = 0;
      lost.hidden = true;
      if (status.state === "starting") document.getElementById("headline").textContent = "Starting";
      if (JSON.stringify(status.steps) !== list.dataset.last) {
        list.replaceChildren(...status.steps.map(draw));
        list.dataset.last = JSON.stringify(status.steps);
      }
    } catch {
      failures += 1;
      lost.hidden = failures < 3;
    }
    setTimeout(ask, failures ? Math.min(1000 * failures, 5000) : 1000);
  };
  setTimeout(ask, 500);
})();
