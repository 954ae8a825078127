// What a page needs beside Gradio: figures and files to keep, links that survive plain http, and a word when the server is away.
window.lab = {
  plot(id) { return document.querySelector(`#${id} .js-plotly-plot`); },

  download(url, name) {
    const link = document.createElement('a');
    link.href = url; link.download = name;
    document.body.appendChild(link); link.click(); link.remove();
  },

  // The figure as it stands, on the ground of the page, in ink that shows on it.
  async image(id, format, name) {
    const drawn = this.plot(id);
    if (!drawn || !window.Plotly) return;
    const dark = document.body.classList.contains('dark');
    const layout = JSON.parse(JSON.stringify(drawn.layout));
    layout.paper_bgcolor = layout.plot_bgcolor = dark ? '#10151d' : '#ffffff';
    layout.font = { ...layout.font, color: dark ? '#ecebe5' : '#222a38' };
    const size = { width: drawn.clientWidth, height: drawn.clientHeight, scale: format === 'png' ? 2 : 1 };
    this.download(await window.Plotly.toImage({ data: drawn.data, layout }, { format, ...size }), `${name}.${format}`);
  },

  save(text, name) {
    if (!text) return;
    const url = URL.createObjectURL(new Blob([text], { type: name.endsWith('.csv') ? 'text/csv' : 'application/json' }));
    this.download(url, name);
    setTimeout(() => URL.revokeObjectURL(url), 10000);
  },

  // A frame around the chosen cell; the figure's own shapes stay.
  mark(id, token, layer) {
    const drawn = this.plot(id);
    if (!drawn || !window.Plotly) return;
    const shapes = (drawn.layout.shapes || []).filter((shape) => shape.name !== 'chosen');
    const chosen = Number.isInteger(token) && Number.isInteger(layer);
    if (chosen) {
      const at = { x0: layer - 0.5, x1: layer + 0.5, y0: token - 0.5, y1: token + 0.5 };
      shapes.push({ type: 'rect', name: 'chosen', ...at, line: { color: '#e0442e', width: 3 } });
    }
    window.Plotly.relayout(drawn, { shapes });
    const address = new URL(location.href);
    if (address.searchParams.has('prompt') && !address.searchParams.has('experiment')) {  // a link to this map, not to another figure
      if (chosen) address.searchParams.set('cell', `${token}.${layer}`); else address.searchParams.delete('cell');
      history.replaceState(null, '', address);
    }
  },

  // Links: the address always says what is on the page.
  settle() {
    this.settled = true;
    const fold = (new URL(location.href).searchParams.get('experiment') ?? '').replace('.', '-');
    if (fold) this.reveal(`${fold}-fold`, 25);
  },
  reveal(id, tries) {  // a page that was just opened is drawn a moment later
    const found = document.getElementById(id);
    if (found?.offsetParent && found.querySelector('.js-plotly-plot')) found.scrollIntoView({ block: 'start' });
    else if (tries) setTimeout(() => this.reveal(id, tries - 1), 200);
  },
  at(panel) {  // a tab was opened; the first one opens by itself before the link has been read
    if (this.settled && new URL(location.href).searchParams.get('panel') !== panel) this.go(new URLSearchParams({ panel }));
  },
  go(query) {  // light or dark stays as the visitor chose it
    const theme = new URL(location.href).searchParams.get('__theme');
    if (theme) query.set('__theme', theme);
    history.replaceState(null, '', `?${query}`);
  },
  remember(about, names, values) {
    const query = new URLSearchParams(about);
    names.forEach((name, i) => query.set(name, values[i] ?? ''));
    const before = new URL(location.href).searchParams;
    const cell = before.get('cell');
    const same = ['experiment', 'model', ...names].every((name) => query.get(name) === before.get(name));
    if (cell && same) query.set('cell', cell);
    this.go(query);
  },
  ran(key, about, names, values) {
    this.remember(about, names, values);
    const plot = document.getElementById(`${key}-plot`);
    if (plot && innerWidth < 760) plot.scrollIntoView({ behavior: 'smooth', block: 'start' });  // on a phone the figure lies below the form
  },
  async share(key, about, names, values) {
    this.remember(about, names, values);
    const button = document.getElementById(`${key}-link`);
    const done = await this.copy(location.href);
    if (done) { button.textContent = 'Link copied'; setTimeout(() => { button.textContent = 'Copy link'; }, 2000); }
    else window.prompt('Copy this link', location.href);
  },
  async copy(text) {
    try { await navigator.clipboard.writeText(text); return true; } catch (refused) { /* plain http has no clipboard */ }
    const field = document.createElement('textarea');
    field.value = text; document.body.appendChild(field); field.select();
    const done = document.execCommand('copy');
    field.remove();
    return done;
  },

  // Every few seconds: is the server there, and is it the one that this page came from?
  async watch() {
    const notice = document.getElementById('notice');
    if (!notice || document.hidden) return;
    let now = null;
    try {
      const answer = await fetch('./gradio_api/app_id', { cache: 'no-store' });
      if (answer.ok) now = (await answer.text());
    } catch (away) { /* said below */ }
    this.born ??= now;
    const restarted = now !== null && this.born !== null && now !== this.born;
    const again = '<button type="button" onclick="location.reload()">Open this page again</button>';
    const said = now === null ? 'The lab does not answer. What you see stays here; this page tries again every few seconds.'
      : restarted ? `The lab was restarted. A run that was going on is lost. ${again}` : '';
    if (notice.innerHTML !== said) notice.innerHTML = said;
    notice.hidden = !said;
  },
};
setInterval(() => window.lab.watch(), 4000);

// Where a page has a <base>, Plotly names its gradients by the whole address, and loses them when the address changes.
// This <base> says nothing that would not hold without it.
document.querySelector('base[href="./"]')?.remove();
