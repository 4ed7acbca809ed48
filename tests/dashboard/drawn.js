// What tests/dashboard/test_components.py draws: each is made of what the components' files offer.
const NAMES = ["bar", "copy", "dialog", "notice", "page", "table", "tile"];
const PATHS = [
    ...NAMES.map((name) => `/assets/app/components/${name}.js`),
    "/assets/app/html.js",
    "/assets/app/format.js",
];

window.draw = async (name) => {
    const parts = Object.assign({}, ...await Promise.all(PATHS.map((path) => import(path))));
    const place = document.querySelector("#main");
    place.replaceChildren();
    parts.render(window.drawn[name](parts), place);
};

window.drawn = {
    bars: ({ html, Bar, money }) => html`<h1>Bars</h1>
        <${Bar} label="Images per day" used=${30} held=${5} size=${100} />
        <${Bar} label="Near" used=${85} size=${100} />
        <${Bar} label="Full" used=${120} size=${100} />
        <${Bar} label="None" used=${0} size=${0} />
        <${Bar} label="Dollars" used="12.50" held="0" size="1000" format=${money} />`,
    confirm: ({ html, Confirm, useState }) => {
        const Asking = () => {
            const [open, setOpen] = useState(false);
            const act = async () => {
                window.acts = (window.acts ?? 0) + 1;
                if (window.acts > 1) return;
                throw Object.assign(new Error("It is locked."), { requestId: "id-1" });
            };
            return html`<button type="button" onClick=${() => setOpen(true)}>Revoke</button>
                ${open && html`<${Confirm} title="Revoke this key?" action="Revoke it" danger=${true} act=${act}
                    onClose=${() => setOpen(false)}><p>It stops within a second.</p><//>`}`;
        };
        return html`<${Asking} />`;
    },
    copy: ({ html, CopyButton }) => html`<${CopyButton} text="sk-gw-secret" what="Key" />`,
    money: ({ html, money, axisMoney }) => html`
        <ul>${[null, "0", "0.006", "0.042", "-1.065", "9.999999", "1234.567"].map((text) => html`<li>${money(text)}</li>`)}</ul>
        ${[[0, 0.25, 0.5], [0, 1, 2], [0, 0.5, 1], [0, 500, 1_000]].map((values) => html`<p>${axisMoney(values).join(" ")}</p>`)}`,
    table: ({ html, DataTable }) => {
        const rows = Array.from({ length: 1000 }, (_, n) => ({ team: `team-${n}`, spend: n % 7 === 0 ? null : String(n / 4) }));
        rows.push({ team: "=1+1", spend: "-3.5" });
        const columns = [{ key: "team", label: "Team", head: true }, { key: "spend", label: "Spend", number: true }];
        return html`<${DataTable} caption="All teams" columns=${columns} rows=${rows} rowKey=${(row) => row.team} file="teams" />`;
    },
};
