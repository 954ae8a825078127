// What a page needs beside Gradio: exporting the figure as it is drawn, and links that survive plain http.
window.lab = {
  plot(id) { return document.querySelector(`#${id} .js-plotly-plot`); },
  async image(id, format, name) {
    const drawn = this.plot(id);
    if (!drawn || !window.Plotly) return;
    const dark = document.body.classList.contains('dark');
    const layout = JSON.parse(JSON.stringify(drawn.layout));
    layout.paper_bgcolor = layout.plot_bgcolor = dark ? '#10151d' : '#ffffff';
    layout.font = { ...layout.font, color: dark ? '#ecebe5' : '#222a38' };
    const figure = { data: drawn.data, layout };
    const url = await window.Plotly.toImage(figure, { format, width: drawn.clientWidth, height: drawn.clientHeight, scale: format === 'png' ? 2 : 1 });
    const link = document.createElement('a');
    link.href = url; link.download = `${name}.${format}`;
    document.body.appendChild(link); link.click(); link.remove();
  },
  remember(query) { if (query) history.replaceState(null, '', query); },
  async copy() {
    const text = location.href;
    try { await navigator.clipboard.writeText(text); return; } catch (refused) { /* plain http has no clipboard */ }
    const field = document.createElement('textarea');
    field.value = text; document.body.appendChild(field); field.select();
    document.execCommand('copy'); field.remove();
  },
};
