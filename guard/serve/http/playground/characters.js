// Characters as the service counts them: Unicode code points, and not JavaScript's UTF-16 units.

const isLow = (unit) => unit >= 0xdc00 && unit < 0xe000;
const isHigh = (unit) => unit >= 0xd800 && unit < 0xdc00;
// What a text file hardly holds: control characters, and what a decoder writes for bytes that are no UTF-8.
const BINARY = /[\0-\x08\x0e-\x1a\x1c-\x1f\x7f\ufffd]/g;

const width = (text, at) => (isHigh(text.charCodeAt(at)) && isLow(text.charCodeAt(at + 1)) ? 2 : 1);

export function count(text) {
  let characters = 0;
  for (let at = 0; at < text.length; at += width(text, at)) characters += 1;
  return characters;
}

// The index in the string of its n-th character.
export function indexOf(text, n) {
  let at = 0;
  for (let left = n; left > 0 && at < text.length; left -= 1) at += width(text, at);
  return at;
}

// A warning where the text seems to be binary data, else an empty text.
export function binaryWarning(text) {
  const strange = text.match(BINARY)?.length ?? 0;
  return strange
    ? `${strange.toLocaleString("en")} control or replacement characters: this seems to be binary data, which no guard can judge well.`
    : "";
}
