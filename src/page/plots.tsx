/** Half an hour as lines, each with its last value and its highest in words. */
import type { VNode } from 'preact'
import { useEffect, useRef } from 'preact/hooks'
import uPlot from 'uplot'
import type { Sample } from '../view/documents.ts'
import { describe, formatRate, formatSeconds } from './words.ts'

const HEIGHT = 130
const MINUTES = 30

interface Line {
  readonly label: string
  readonly value: (sample: Sample) => number | undefined
}

interface PlotProps {
  readonly title: string
  readonly lines: readonly Line[]
  readonly format: (value: number) => string
  readonly samples: readonly Sample[]
  /** Most samples have no value: each that has one is a point. */
  readonly isSparse?: boolean
}

/** A colour of the style sheet, as it is now: in the dark it is another. */
const colour = (name: string) => (): string =>
  getComputedStyle(document.documentElement).getPropertyValue(name)

function axis(parts: uPlot.Axis): uPlot.Axis {
  const line = { stroke: colour('--line'), width: 1 }
  return { stroke: colour('--quiet'), font: '11px system-ui, sans-serif', grid: line, ticks: line, ...parts }
}

function optionsOf({ lines, format, isSparse = false }: PlotProps, width: number): uPlot.Options {
  return {
    ...{ width, height: HEIGHT, legend: { show: false }, cursor: { show: false } },
    // Small values are not blown up, and the line begins at the ground.
    scales: { y: { range: (_, __, max) => [0, Math.max(max, Number.MIN_VALUE) * 1.1] } },
    axes: [
      axis({
        size: 28,
        values: (_, ticks) => ticks.map((at) => new Date(at * 1_000).toTimeString().slice(0, 5)),
      }),
      axis({ size: 58, space: 28, values: (_, ticks) => ticks.map(format) }),
    ],
    series: [
      {},
      ...lines.map((_, i) => ({
        stroke: colour(i === 0 ? '--accent' : '--second'),
        ...{ width: 1.5, points: { show: isSparse, size: 3 } },
        ...(i > 0 && { dash: [4, 3] }),
      })),
    ],
  }
}

function dataOf({ samples, lines }: PlotProps): uPlot.AlignedData {
  return [
    samples.map(({ at }) => at / 1_000),
    ...lines.map(({ value }) => samples.map((sample) => value(sample) ?? null)),
  ]
}

/** Draws into an element, as wide as that is. Returns what ends it. */
function draw(into: HTMLElement, props: PlotProps): { readonly plot: uPlot; readonly end: () => void } {
  const plot = new uPlot(optionsOf(props, into.clientWidth), dataOf(props), into)
  const resize = new ResizeObserver(() => {
    plot.setSize({ width: into.clientWidth, height: HEIGHT })
  })
  resize.observe(into)
  const dark = matchMedia('(prefers-color-scheme: dark)')
  const redraw = (): void => {
    plot.redraw()
  }
  dark.addEventListener('change', redraw)
  const end = (): void => {
    resize.disconnect()
    dark.removeEventListener('change', redraw)
    plot.destroy()
  }
  return { plot, end }
}

function Plot(props: PlotProps): VNode {
  const { title, lines, format, samples } = props
  const element = useRef<HTMLDivElement>(null)
  const drawn = useRef<uPlot>(undefined)
  useEffect(() => {
    const { plot, end } = draw(element.current!, props)
    drawn.current = plot
    return end
  }, [])
  const last = samples.at(-1)?.at
  useEffect(() => {
    drawn.current?.setData(dataOf(props))
  }, [last])
  return (
    <figure class="card">
      <figcaption>
        <strong>{title}</strong>
        {lines.map(({ label, value }, i) => (
          <p key={label} class="quiet">
            <span class={i === 0 ? 'key' : 'key second'}>{label}</span>: {describe(samples, value, format)}
          </p>
        ))}
      </figcaption>
      <div class="plot" ref={element} aria-hidden="true" />
    </figure>
  )
}

export function Plots({ samples }: { readonly samples: readonly Sample[] }): VNode {
  return (
    <section>
      <h2 class="hidden">The last {MINUTES} minutes</h2>
      <div class="plots">
        <Plot
          title="Programming latency"
          isSparse
          lines={[
            { label: 'median', value: ({ latency }) => latency?.median },
            { label: 'longest', value: ({ latency }) => latency?.max },
          ]}
          format={formatSeconds}
          samples={samples}
        />
        <Plot
          title="Changes made to the kernel"
          lines={[{ label: 'a second', value: ({ changes }) => changes }]}
          format={formatRate}
          samples={samples}
        />
        <Plot
          title="New connections"
          lines={[{ label: 'a second', value: ({ connections }) => connections }]}
          format={formatRate}
          samples={samples}
        />
      </div>
    </section>
  )
}
