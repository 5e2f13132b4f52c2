// The paired difference of two lists of scores, and its 95 % interval: the statistics of stg_eval.statistics that need
// no resampling. Means: Student's t, one draw a cluster. Scores that are all 0 or 1: as proportions.py has them.

/** Lanczos' approximation, to fifteen digits. */
function logGamma(x) {
  const c = [676.5203681218851, -1259.1392167224028, 771.3234287776531, -176.6150291621406, 12.507343278686905, -0.13857109526572012, 9.984369578019572e-6, 1.5056327351493116e-7];
  const t = x + 6.5, sum = c.reduce((all, v, i) => all + v / (x + i), 0.9999999999998099);
  return 0.5 * Math.log(2 * Math.PI) + (x - 0.5) * Math.log(t) - t + Math.log(sum);
}

/** The regularised incomplete beta function I_x(a, b), by its continued fraction. */
function beta(x, a, b) {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  if (x > (a + 1) / (a + b + 2)) return 1 - beta(1 - x, b, a);
  const front = Math.exp(logGamma(a + b) - logGamma(a) - logGamma(b) + a * Math.log(x) + b * Math.log(1 - x)) / a;
  let c = 1, d = 1 / (1 - ((a + b) * x) / (a + 1)), h = d;
  for (let m = 1; m < 500; m++) {
    for (const n of [(m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m)), (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1))]) {
      d = 1 / (1 + n * d);
      c = 1 + n / c;
      h *= c * d;
    }
    if (Math.abs(c * d - 1) < 1e-14) break;
  }
  return front * h;
}

function bisect(rising, target, low, high) {
  for (let i = 0; i < 200 && high - low > 1e-15 * Math.max(1, high); i++) {
    const middle = (low + high) / 2;
    if (rising(middle) < target) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}

const betaQuantile = (p, a, b) => bisect((x) => beta(x, a, b), p, 0, 1);
/** The t that 97.5 % of Student's distribution lie below. */
const tQuantile = (degrees) => bisect((t) => 1 - beta(degrees / (degrees + t * t), degrees / 2, 0.5) / 2, 0.975, 0, 1e4);

function covariance(a, b, counts) {
  const groups = counts.length, sum = (list) => list.reduce((s, v) => s + v, 0);
  const n = sum(counts), allA = sum(a), allB = sum(b);
  const products = counts.map((count, i) => (n * a[i] - allA * count) * (n * b[i] - allB * count));
  return ((groups / (groups - 1)) * sum(products)) / n ** 4;
}

function shareInterval(hits, counts) {
  const n = counts.reduce((s, v) => s + v, 0), groups = counts.length;
  const share = hits.reduce((s, v) => s + v, 0) / n, variance = covariance(hits, hits, counts);
  let size = groups;
  if (variance > 0) size = Math.min(n, ((share * (1 - share)) / variance) * (tQuantile(n - 1) / tQuantile(groups - 1)) ** 2);
  const found = share * size;
  return [share > 0 ? betaQuantile(0.025, found, size - found + 1) : 0, share < 1 ? betaQuantile(0.975, found + 1, size - found) : 1];
}

function shareDifference(wins, losses, counts) {
  const sum = (list) => list.reduce((s, v) => s + v, 0), n = sum(counts);
  const won = sum(wins) / n, lost = sum(losses) / n;
  const [wonLow, wonHigh] = shareInterval(wins, counts), [lostLow, lostHigh] = shareInterval(losses, counts);
  const spread = Math.sqrt(covariance(wins, wins, counts) * covariance(losses, losses, counts));
  const r = spread ? covariance(wins, losses, counts) / spread : 0;
  const joined = (x, y) => Math.sqrt(Math.max(x * x + y * y - 2 * r * x * y, 0));
  return [won - lost - joined(won - wonLow, lostHigh - lost), won - lost + joined(wonHigh - won, lost - lostLow)];
}

/** B - A of paired scores; `clusters` name what is drawn together. Scores are scaled: `one` stands for 1. */
function pairedDifference(a, b, clusters, one = 1) {
  const sums = new Map(), binary = [...a, ...b].every((v) => v === 0 || v === one);
  a.forEach((before, i) => {
    const d = b[i] - before, sum = sums.get(clusters[i]) ?? sums.set(clusters[i], { d: 0, won: 0, n: 0 }).get(clusters[i]);
    sum.d += d;
    sum.won += Math.max(d, 0);
    sum.n += 1;
  });
  const n = a.length, groups = [...sums.values()], counts = groups.map((g) => g.n);
  const mean = (list) => list.reduce((s, v) => s + v, 0) / n;
  const found = { n, a: mean(a), b: mean(b), difference: mean(groups.map((g) => g.d)), low: NaN, high: NaN };
  if (groups.length < 2) return found;
  if (binary) {
    const wins = groups.map((g) => g.won / one), losses = groups.map((g) => (g.won - g.d) / one);
    const [low, high] = shareDifference(wins, losses, counts);
    return { ...found, low: low * one, high: high * one };
  }
  const of = groups.map((g) => g.d), half = tQuantile(groups.length - 1) * Math.sqrt(covariance(of, of, counts));
  return { ...found, low: found.difference - half, high: found.difference + half };
}
