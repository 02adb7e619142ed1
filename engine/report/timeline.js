// The timeline: one bar per task, one lane for each that overlaps. Wheel zooms, dragging moves,
// a double click shows all. Data: {nodes: [name], spans: [[node, lane, start, seconds, row, ok]]}.
const data = JSON.parse(document.getElementById("spans").textContent);
const canvas = document.getElementById("timeline"), told = document.getElementById("told");
if (canvas && data.spans.length) {
  const end = Math.max(...data.spans.map(s => s[2] + s[3]));
  const lanes = Math.max(...data.spans.map(s => s[1])) + 1;
  const tall = Math.max(2, Math.min(16, Math.floor(420 / lanes)));
  const hint = told.textContent;
  let from = 0, shown = end, drag = null, hot = null;
  const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const time = s => s < 1 ? (s * 1000).toPrecision(3) + " ms" : s.toPrecision(3) + " s";

  function draw() {
    const wide = canvas.clientWidth, scale = devicePixelRatio || 1, high = lanes * tall + 18;
    canvas.style.height = high + "px";
    canvas.width = wide * scale; canvas.height = high * scale;
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    const shades = [...Array(8).keys()].map(i => colour("--c" + i)), bad = colour("--bad");
    pen.fillStyle = colour("--card"); pen.fillRect(0, 0, wide, lanes * tall);
    for (const span of data.spans) {
      const x = (span[2] - from) / shown * wide, w = Math.max(0.6, span[3] / shown * wide);
      if (x > wide || x + w < 0) continue;
      pen.fillStyle = span[5] ? shades[span[0] % 8] : bad;
      pen.globalAlpha = hot && span[4] !== hot[4] ? 0.25 : 1;
      pen.fillRect(x, span[1] * tall, w, Math.max(1, tall - 1));
    }
    pen.globalAlpha = 1; pen.fillStyle = colour("--soft"); pen.font = "11px system-ui, sans-serif";
    pen.textBaseline = "bottom";
    for (let i = 0; i <= 6; i++) {
      pen.textAlign = i === 0 ? "left" : i === 6 ? "right" : "center";
      pen.fillText(from + i ? time(from + shown * i / 6) : "0", wide * i / 6, high);
    }
  }
  function at(event) {
    const box = canvas.getBoundingClientRect();
    const when = from + (event.clientX - box.left) / box.width * shown;
    const lane = Math.floor((event.clientY - box.top) / tall), near = shown / box.width * 2;
    return data.spans.find(s => s[1] === lane && s[2] - near <= when && when <= s[2] + s[3] + near);
  }
  function look(event) {
    const found = at(event) || null;
    if (found === hot) return;
    hot = found;
    told.textContent = hot ? `${data.nodes[hot[0]]}, row ${hot[4]}: ${time(hot[3])} from ` +
      `${time(hot[2])}${hot[5] ? "" : ", failed"}` : hint;
    requestAnimationFrame(draw);
  }
  function keep() {
    shown = Math.min(end, Math.max(end / 5000, shown));
    from = Math.max(0, Math.min(end - shown, from));
    requestAnimationFrame(draw);
  }
  canvas.addEventListener("wheel", event => {
    if (!event.ctrlKey && !event.shiftKey && shown === end && event.deltaY > 0) return;
    event.preventDefault();
    const place = event.offsetX / canvas.clientWidth, by = Math.exp(event.deltaY / 300);
    from += shown * place * (1 - by); shown *= by; keep();
  }, {passive: false});
  canvas.addEventListener("pointerdown", event => { drag = [event.clientX, from]; });
  addEventListener("pointerup", () => { drag = null; });
  canvas.addEventListener("pointermove", event => {
    if (!drag) return look(event);
    from = drag[1] - (event.clientX - drag[0]) / canvas.clientWidth * shown; keep();
  });
  canvas.addEventListener("pointerleave", () => { hot = null; told.textContent = hint; draw(); });
  canvas.addEventListener("dblclick", () => { from = 0; shown = end; keep(); });
  addEventListener("resize", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  draw();
}
