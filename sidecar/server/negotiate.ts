import { KvidxError } from '../../src/common/errors.ts'
import { clip } from './parameters.ts'

/**
 * The offered media type that the Accept header likes best; the first offer when there is none, or on equal terms.
 * Errors: not_acceptable naming the offers.
 */
export function negotiate<const T extends readonly [string, ...string[]]>(
  accept: string | undefined,
  offers: T,
): T[number] {
  if (accept === undefined || accept === '*/*' || accept === '') return offers[0]
  const accepted = accept.split(',').map(readRange)
  let best: T[number] | undefined
  let bestQuality = 0
  for (const offer of offers) {
    const quality = qualityOf(offer, accepted)
    if (quality > bestQuality) {
      best = offer
      bestQuality = quality
    }
  }
  if (best === undefined)
    throw new KvidxError(
      'not_acceptable',
      `accept: '${clip(accept)}' cannot be given (offered: ${offers.join(', ')})`,
      {
        offered: offers,
      },
    )
  return best
}

interface AcceptedRange {
  readonly type: string
  readonly quality: number
}

function readRange(part: string): AcceptedRange {
  const [type = '', ...parameters] = part.split(';').map(piece => piece.trim().toLowerCase())
  const q = parameters.find(parameter => parameter.startsWith('q='))
  const quality = q === undefined ? 1 : Number(q.slice(2))
  return { type, quality: quality >= 0 && quality <= 1 ? quality : 0 }
}

/** The most specific range that matches decides. */
function qualityOf(offer: string, accepted: readonly AcceptedRange[]): number {
  const wild = `${offer.slice(0, offer.indexOf('/'))}/*`
  for (const type of [offer, wild, '*/*']) {
    const range = accepted.find(candidate => candidate.type === type)
    if (range) return range.quality
  }
  return 0
}

/** The media type of a body, without parameters, lower case; undefined when none is given. */
export function mediaType(header: string | undefined): string | undefined {
  return header === undefined ? undefined : (header.split(';', 1)[0] as string).trim().toLowerCase()
}
