import { type Address, Block } from './memory.ts'

/** A text that ends with a zero byte, as C wants it. */
export function cText(text: string): Block {
  const bytes = Buffer.from(`${text}\0`)
  const block = new Block(bytes.length)
  block.bytes.set(bytes)
  return block
}

/** An array of pointers: to texts of its own (with a zero byte behind each) or to given addresses. */
export class Pointers {
  readonly #block: Block

  constructor(items: readonly (string | Address)[]) {
    const texts = items.map(item => (typeof item === 'number' ? undefined : Buffer.from(`${item}\0`)))
    let next = items.length * 8
    this.#block = new Block(texts.reduce((sum, text) => sum + (text?.length ?? 0), next))
    items.forEach((item, index) => {
      const text = texts[index]
      this.#block.words[index] = BigInt(typeof item === 'number' ? item : this.#block.address + next)
      if (!text) return
      this.#block.bytes.set(text, next)
      next += text.length
    })
  }

  get address(): Address {
    return this.#block.address
  }

  free(): void {
    this.#block.free()
  }
}
