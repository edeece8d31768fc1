/** Makes metrics: a line for each, with its name and its help. */
import {
  Counter,
  type CounterConfiguration,
  Gauge,
  type GaugeConfiguration,
  Histogram,
  type HistogramConfiguration,
  type Registry,
} from 'prom-client'

export interface MetricMakers {
  readonly counter: <Label extends string = never>(
    name: string,
    help: string,
    labelNames?: Label[],
    parts?: Partial<CounterConfiguration<Label>>,
  ) => Counter<Label>
  readonly gauge: <Label extends string = never>(
    name: string,
    help: string,
    labelNames?: Label[],
    parts?: Partial<GaugeConfiguration<Label>>,
  ) => Gauge<Label>
  readonly histogram: <Label extends string>(
    name: string,
    help: string,
    labelNames: Label[],
    buckets: number[],
    parts?: Partial<HistogramConfiguration<Label>>,
  ) => Histogram<Label>
}

/** What makes metrics in one registry. */
export function makers(registry: Registry): MetricMakers {
  const registers = [registry]
  return {
    counter: (name, help, labelNames = [], parts = {}) =>
      new Counter({ name, help, labelNames, registers, ...parts }),
    gauge: (name, help, labelNames = [], parts = {}) =>
      new Gauge({ name, help, labelNames, registers, ...parts }),
    histogram: (name, help, labelNames, buckets, parts = {}) =>
      new Histogram({ name, help, labelNames, buckets, registers, ...parts }),
  }
}
