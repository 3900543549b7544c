"use strict";
{
  const json = (element) => (element ? JSON.parse(element.textContent) : []);
  const strips = json(document.getElementById("strips"));

  for (const button of document.querySelectorAll(".pause")) {
    button.addEventListener("click", () => {
      const paused = button.parentElement.classList.toggle("paused");
      button.setAttribute("aria-pressed", paused);
      button.textContent = paused ? "Play" : "Pause";
    });
  }

  const drawMap = (map) => {
    const data = json(map.querySelector(".map-data"));
    const plot = map.querySelector(".map-plot");
    const points = [...map.querySelectorAll(".points use")];
    const places = points.map((point) => [point.x.baseVal.value, point.y.baseVal.value]);
    const shown = map.querySelector(".shown");
    const rings = [...map.querySelectorAll(".ring")];
    const legends = [...map.querySelectorAll(".legend")];
    let by = "person";
    let chosen = -1;

    // Rings lie above all points.
    const ring = (circle, i) => {
      circle.setAttribute("r", i < 0 ? 0 : 2 * Number(map.dataset.radius));
      if (i >= 0) [circle.cx.baseVal.value, circle.cy.baseVal.value] = places[i];
    };

    const show = (i) => {
      if (chosen >= 0) points[chosen].setAttribute("tabindex", -1);
      chosen = i;
      points[i].setAttribute("tabindex", 0);
      const [walker, near] = data.points[i];
      ring(rings[0], i);
      ring(rings[1], near);
      const [person, condition, view] = data.labels[i];
      shown.hidden = false;
      shown.querySelector(".shown-person").textContent = person;
      shown.querySelector(".shown-condition").textContent = condition;
      shown.querySelector(".shown-view").textContent = view;
      const nearest = shown.querySelector(".shown-nearest");
      nearest.replaceChildren("none");
      if (near >= 0) {
        const names = data.labels[near].flatMap((label, k) => {
          const name = document.createElement("bdi");
          name.textContent = label;
          return k ? [", ", name] : [name];
        });
        const verdict = data.labels[near][0] === person ? " (the same person)" : " (somebody else)";
        nearest.replaceChildren(...names, verdict);
      }
      const box = shown.querySelector(".walker");
      if (box) {
        box.hidden = walker === null;
        shown.querySelector(".absent").hidden = walker !== null;
        const picture = box.firstElementChild;
        picture.alt = "Silhouette of " + person + ", walking";
        if (walker !== null) picture.src = "data:image/png;base64," + strips[walker];
        else picture.removeAttribute("src");
      }
    };

    const light = (entry) => {
      plot.classList.toggle("dim", entry !== null);
      points.forEach((point, i) => point.classList.toggle("lit", data[by][i] === entry));
    };
    const pressed = () => {
      const legend = legends.find((list) => list.dataset.by === by);
      const entry = [...legend.querySelectorAll("button")].findIndex((b) => b.getAttribute("aria-pressed") === "true");
      return entry < 0 ? null : entry;
    };

    const colour = (key) => {
      by = key;
      for (const legend of legends) legend.hidden = legend.dataset.by !== by;
      const entries = [...legends.find((list) => list.dataset.by === by).querySelectorAll("button")];
      points.forEach((point, i) => {
        const { hue, mark } = entries[data[by][i]].dataset;
        point.setAttribute("class", hue);
        point.setAttribute("href", "#" + map.dataset.id + "-m" + mark);
      });
      light(pressed());
    };

    for (const radio of map.querySelectorAll(".by input")) {
      radio.addEventListener("change", () => colour(radio.value));
      if (radio.checked) by = radio.value;
    }
    for (const legend of legends) {
      const buttons = [...legend.querySelectorAll("button")];
      buttons.forEach((button, entry) => {
        for (const event of ["pointerenter", "focus"]) button.addEventListener(event, () => light(entry));
        for (const event of ["pointerleave", "blur"]) button.addEventListener(event, () => light(pressed()));
        button.addEventListener("click", () => {
          const now = button.getAttribute("aria-pressed") !== "true";
          for (const other of buttons) other.setAttribute("aria-pressed", other === button && now);
          light(now ? entry : null);
        });
      });
    }

    // The nearest point to a finger: points are small on a phone.
    plot.addEventListener("click", (event) => {
      const hit = points.indexOf(event.target);
      if (hit >= 0) {
        show(hit);
        return;
      }
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(plot.getScreenCTM().inverse());
      const reach = 22 / plot.getScreenCTM().a;
      let best = -1;
      let least = reach * reach;
      places.forEach(([x, y], i) => {
        const square = (x - at.x) ** 2 + (y - at.y) ** 2;
        if (square < least) [best, least] = [i, square];
      });
      if (best >= 0) show(best);
    });

    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    plot.addEventListener("keydown", (event) => {
      const from = points.indexOf(event.target);
      if (from < 0) return;
      if (event.key === "Enter" || event.key === " ") {
        show(from);
        event.preventDefault();
        return;
      }
      if (!(event.key in steps)) return;
      event.preventDefault();
      const [dx, dy] = steps[event.key];
      let best = -1;
      let least = Infinity;
      places.forEach(([x, y], i) => {
        const along = (x - places[from][0]) * dx + (y - places[from][1]) * dy;
        const across = Math.abs((x - places[from][0]) * dy) + Math.abs((y - places[from][1]) * dx);
        if (along > 0 && along + 2 * across < least) [best, least] = [i, along + 2 * across];
      });
      if (best >= 0) {
        show(best);
        points[best].focus();
      }
    });

    colour(by);
    if (points.length) show(0);
  };

  document.querySelectorAll(".map").forEach(drawMap);
}
