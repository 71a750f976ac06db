"""How a report looks, on a screen and on A4."""

RULES = """
@page { size: A4; margin: 10mm 12mm; }
* { box-sizing: border-box; }
body { font: 9.5pt/1.3 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; color: #1b1f24;
  background: #fff; max-width: 186mm; margin: 3mm auto; padding: 0 2mm; }
@media print { body { margin: 0 auto; padding: 0; } }
header { display: flex; justify-content: space-between; align-items: baseline; gap: 6mm;
  border-bottom: 0.6mm solid #1b1f24; padding-bottom: 1mm; }
h1 { font-size: 15pt; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 11pt; margin: 2.5mm 0 0.8mm; break-after: avoid; }
p { margin: 0 0 0.8mm; }
.small { font-size: 8pt; color: #4a525c; }
.not-a-device { font-size: 8.5pt; border: 0.3mm solid #6b7280; padding: 1mm 2mm; margin: 2mm 0 0; }
.doubt { border: 0.5mm solid #b42318; background: #fef3f2; padding: 1.5mm 2mm; margin: 2mm 0; }
.row { display: flex; flex-wrap: wrap; align-items: flex-start; }
figure { margin: 0 3mm 0 0; flex: 1 1 0; min-width: 26mm; max-width: 60mm; break-inside: avoid; }
figure svg { display: block; width: 100%; max-height: 48mm; background: #000; }
.modes figure { max-width: 43mm; }
.modes svg { max-height: 34mm; }
figcaption { font-size: 8pt; margin-top: 0.7mm; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 0.6mm 2mm; border-bottom: 0.2mm solid #d0d5dd; }
th { font-size: 8.5pt; font-weight: 600; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; }
.swatch { display: inline-block; width: 3mm; height: 3mm; margin-right: 1.5mm; border-radius: 0.6mm;
  vertical-align: -0.3mm; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
td.bar { width: 34mm; }
td.bar svg { display: block; width: 30mm; height: 3.5mm; margin-left: auto; }
table.pairs { font-size: 8pt; }
table.pairs th, table.pairs td { text-align: left; font-size: 7.5pt; line-height: 1.25;
  padding: 0.1mm 2mm 0.1mm 0;
  border: 0; vertical-align: top; overflow-wrap: anywhere; }
table.pairs th { width: 32mm; font-weight: 400; color: #4a525c; }
code { font: 6.5pt/1.25 ui-monospace, Consolas, monospace; overflow-wrap: anywhere; }
"""
