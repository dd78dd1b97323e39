/** Data from base64, of which each data has one text. @returns what is wrong with the text, where it is none. */
export function decodeBase64(text: string): Buffer | string {
  const data = Buffer.from(text, 'base64')
  // Buffer skips what is not base64, and bits that stand for no data: only a text that comes out the same was valid
  if (data.toString('base64') === text) return data
  return text.length % 4 === 0 && ALPHABET.test(text)
    ? 'not canonical base64: its last character has bits set that stand for no data'
    : 'not base64 with padding'
}

/** No groups: on megabytes they would overflow the stack. */
const ALPHABET = /^[A-Za-z0-9+/]*={0,2}$/
