/** Makes a picture of a screen small: at most 256 colours, of which such a picture has hardly more. */
import { crc32, deflateSync, inflateSync } from 'node:zlib'

const SIGNATURE = 8
const COLOURS = 256
/** A chunk has its length, its name and a checksum around it. */
const AROUND = 12

function chunk(name: string, data: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(name, 'latin1'), data])
  const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)]
  length.writeUInt32BE(data.length)
  sum.writeUInt32BE(crc32(body))
  return Buffer.concat([length, body, sum])
}

function* chunksOf(png: Buffer): Generator<readonly [name: string, data: Buffer]> {
  for (let at = SIGNATURE; at < png.length;) {
    const length = png.readUInt32BE(at)
    yield [png.toString('latin1', at + 4, at + 8), png.subarray(at + 8, at + 8 + length)]
    at += AROUND + length
  }
}

/** The predictor of filter 4 (PNG specification, 9.4). */
function paeth(left: number, up: number, corner: number): number {
  const [a, b, c] = [left, up, corner].map((one) => Math.abs(left + up - corner - one)) as [
    number,
    number,
    number,
  ]
  return a <= b && a <= c ? left : b <= c ? up : corner
}

const PREDICTORS: readonly ((left: number, up: number, corner: number) => number)[] = [
  () => 0,
  (left) => left,
  (_, up) => up,
  (left, up) => (left + up) >> 1,
  paeth,
]

/** Bytes as they are, of lines that each begin with the number of a filter. */
function unfilter(lines: Buffer, stride: number, height: number): Buffer {
  const pixels = Buffer.alloc(stride * height)
  for (let y = 0; y < height; y++) {
    const predict = PREDICTORS[lines[y * (stride + 1)]!]!
    for (let x = 0; x < stride; x++) {
      const at = y * stride + x
      const left = x < 3 ? 0 : pixels[at - 3]!
      const up = y === 0 ? 0 : pixels[at - stride]!
      const corner = x < 3 || y === 0 ? 0 : pixels[at - stride - 3]!
      pixels[at] = lines[y * (stride + 1) + 1 + x]! + predict(left, up, corner)
    }
  }
  return pixels
}

const partsOf = (colour: number): number[] => [colour >> 16, (colour >> 8) & 255, colour & 255]

function distance(one: number, other: number): number {
  const parts = partsOf(other)
  return partsOf(one).reduce((sum, part, i) => sum + (part - parts[i]!) ** 2, 0)
}

/** The most frequent colours, and for each colour the place of the one that is nearest. */
function paletteOf(colours: readonly number[]): {
  readonly palette: number[]
  readonly places: Map<number, number>
} {
  const counts = new Map<number, number>()
  for (const colour of colours) counts.set(colour, (counts.get(colour) ?? 0) + 1)
  const all = [...counts].sort(([, a], [, b]) => b - a).map(([colour]) => colour)
  const palette = all.slice(0, COLOURS)
  const nearest = (colour: number): number =>
    palette.reduce((best, one, i) => (distance(one, colour) < distance(palette[best]!, colour) ? i : best), 0)
  return { palette, places: new Map(all.map((colour) => [colour, nearest(colour)])) }
}

/** `png` is Chromium's: three bytes for a pixel, not interlaced. */
export function shrink(png: Buffer): Buffer {
  const chunks = [...chunksOf(png)]
  const header = Buffer.from(chunks[0]![1])
  const [width, height] = [header.readUInt32BE(0), header.readUInt32BE(4)]
  if (header[9] !== 2) throw new Error(`Cannot shrink a picture of colour type ${header[9]}`)
  const data = Buffer.concat(chunks.filter(([name]) => name === 'IDAT').map(([, part]) => part))
  const pixels = unfilter(inflateSync(data), 3 * width, height)
  const colours = Array.from({ length: width * height }, (_, i) => pixels.readUIntBE(3 * i, 3))
  const { palette, places } = paletteOf(colours)
  const lines = Buffer.alloc((width + 1) * height)
  colours.forEach((colour, i) => {
    lines[i + 1 + Math.floor(i / width)] = places.get(colour)!
  })
  header[9] = 3
  return Buffer.concat([
    png.subarray(0, SIGNATURE),
    chunk('IHDR', header),
    chunk('PLTE', Buffer.from(palette.flatMap(partsOf))),
    chunk('IDAT', deflateSync(lines, { level: 9 })),
    chunk('IEND', Buffer.alloc(0)),
  ])
}
