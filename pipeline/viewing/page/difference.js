// The words in which two texts differ: what neither has in common with the other, by their longest common sequence.

const MOST = 400; // words of a text; longer ones are shown without marks

export function difference(one, other) {
  const [a, b] = [split(one), split(other)];
  if (a.length > MOST || b.length > MOST) return null;
  const lengths = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i--)
    for (let j = b.length - 1; j >= 0; j--)
      lengths[i][j] = same(a[i], b[j]) ? lengths[i + 1][j + 1] + 1 : Math.max(lengths[i + 1][j], lengths[i][j + 1]);
  const common = lengths[0][0];
  if (common * 3 < Math.max(a.length, b.length)) return null; // two texts of their own: marks all over say nothing
  const [left, right] = [[], []];
  let [i, j] = [0, 0];
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && same(a[i], b[j])) { left.push([a[i++], false]); right.push([b[j++], false]); }
    else if (j >= b.length || (i < a.length && lengths[i + 1][j] >= lengths[i][j + 1])) left.push([a[i++], true]);
    else right.push([b[j++], true]);
  }
  return [joined(left), joined(right)];
}

const split = (text) => text.match(/\s*\S+|\s+$/g) ?? [];
const same = (a, b) => a.trim() === b.trim();

function joined(words) {
  const runs = [];
  for (const [word, differs] of words) {
    if (runs.length && runs.at(-1)[1] === differs) runs.at(-1)[0] += word;
    else runs.push([word, differs]);
  }
  return runs;
}
