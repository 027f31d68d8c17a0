"use strict";
const source = new EventSource("events");
source.addEventListener("figures", (message) => {
  const told = JSON.parse(message.data);
  for (const [name, text] of Object.entries(told.texts)) {
    const place = document.getElementById(name);
    if (place) place.textContent = text;
  }
  for (const [name, lines] of Object.entries(told.lists)) {
    const place = document.getElementById(name);
    if (place) place.replaceChildren(...lines.map((line) => {
      const item = document.createElement("li");
      item.textContent = line;
      return item;
    }));
  }
  document.getElementById("halted").className = told.halted ? "halted" : "";
  for (const picture of document.querySelectorAll("img")) {
    const wanted = picture.dataset.source + "?n=" + told.drawn;
    if (picture.getAttribute("src") !== wanted) picture.setAttribute("src", wanted);
    if (told.alternatives[picture.id]) picture.alt = told.alternatives[picture.id];
  }
});
