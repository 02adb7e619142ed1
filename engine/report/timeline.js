// Tasks on lanes: a band per track (a model, the tools), in it a lane for each task that overlaps.
// Wheel zooms, dragging moves, a double click shows all.
// Data: {nodes: [name], tracks: [name], spans: [[node, track, lane, start, seconds, row, ok]]}.
const data = JSON.parse(document.getElementById("spans").textContent);
const canvas = document.getElementById("timeline"), told = document.getElementById("told");
if (canvas && data.spans.length) {
  const end = data.spans.reduce((most, s) => Math.max(most, s[3] + s[4]), 0);
  const lanes = data.tracks.map(() => 0), tops = [];
  for (const s of data.spans) lanes[s[1]] = Math.max(lanes[s[1]], s[2] + 1);
  const all = lanes.reduce((a, b) => a + b, 0), head = 17;
  const tall = Math.max(2, Math.min(16, Math.floor(420 / all)));
  let high = 0;
  lanes.forEach(n => { tops.push(high + head); high += n ? n * tall + head + 4 : 0; });
  const hint = told.textContent;
  let from = 0, shown = end, drag = null, hot = null;
  const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const time = s => s < 1 ? (s * 1000).toPrecision(3) + " ms" : s.toPrecision(3) + " s";

  function draw() {
    const wide = canvas.clientWidth, scale = devicePixelRatio || 1;
    canvas.style.height = high + 18 + "px";
    canvas.width = wide * scale; canvas.height = (high + 18) * scale;
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    const shades = [...Array(8).keys()].map(i => colour("--c" + i)), bad = colour("--bad");
    pen.font = "11px system-ui, sans-serif"; pen.textBaseline = "bottom";
    lanes.forEach((n, track) => {
      if (!n) return;
      pen.fillStyle = colour("--card"); pen.fillRect(0, tops[track], wide, n * tall);
      pen.fillStyle = colour("--soft"); pen.textAlign = "left";
      pen.fillText(`${data.tracks[track]}: ${n} ${n > 1 ? "lanes" : "lane"}`, 0, tops[track] - 2);
    });
    const gap = tall > 3 ? 1 : 0;
    for (const span of data.spans) {
      const x = (span[3] - from) / shown * wide, w = span[4] / shown * wide;
      if (x > wide || x + w < 0) continue;
      pen.fillStyle = span[6] ? shades[span[0] % 8] : bad;
      pen.globalAlpha = hot && span[5] !== hot[5] ? 0.25 : 1;
      pen.fillRect(x, tops[span[1]] + span[2] * tall, Math.max(0.8, w > 3 ? w - 0.7 : w), tall - gap);
    }
    pen.globalAlpha = 1; pen.fillStyle = colour("--soft");
    for (let i = 0; i <= 6; i++) {
      pen.textAlign = i === 0 ? "left" : i === 6 ? "right" : "center";
      pen.fillText(from + i ? time(from + shown * i / 6) : "0", wide * i / 6, high + 16);
    }
  }
  function at(event) {
    const box = canvas.getBoundingClientRect(), y = event.clientY - box.top;
    const when = from + (event.clientX - box.left) / box.width * shown;
    const track = tops.findLastIndex((top, i) => lanes[i] && top <= y);
    const lane = Math.floor((y - tops[track]) / tall), near = shown / box.width * 2;
    return data.spans.find(s => s[1] === track && s[2] === lane &&
      s[3] - near <= when && when <= s[3] + s[4] + near);
  }
  function look(event) {
    const found = at(event) || null;
    if (found === hot) return;
    hot = found;
    told.textContent = hot ? `${data.nodes[hot[0]]}, row ${hot[5]}: ${time(hot[4])} from ` +
      `${time(hot[3])}${hot[6] ? "" : ", failed"}` : hint;
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
