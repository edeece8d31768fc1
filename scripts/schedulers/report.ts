/**
 * The experiment's result as tables and as a plot.
 *   report.ts             of .cache/schedulers/rounds.jsonl, beside it
 *   report.ts --record    into docs, too
 * Exits with 1 where requests have failed.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { format } from 'prettier'
import { LIMITS, PERCENTS, type Result, type Round, type Row, type Spread, summarize } from './figures.ts'
import { extentOf, rateOf, type Scenario, SCENARIOS } from './plan.ts'
import { plot } from './plot.ts'

const ROOT = join(import.meta.dirname, '../..')
const OUT = join(ROOT, '.cache/schedulers')
export const RECORDED = join(ROOT, 'scripts/schedulers/recorded.json')
export const PAGE = join(ROOT, 'docs/migrating.md')
export const PLOT = join(ROOT, 'docs/schedulers.svg')

const count = (value: number): string => value.toLocaleString('en')

/** The lowest and the highest round say nothing where there is one. */
const cell = ({ all, low, high }: Spread): string =>
  low === high ? count(all) : `${count(all)} (${count(low)} to ${count(high)})`

/** Without waiting nothing depends on the round but its requests. */
const line = ({ choice, latency }: Row): string =>
  choice === 'none'
    ? `| no waiting | ${latency.map(({ all }) => count(all)).join(' | ')} |`
    : `| \`${choice}\` | ${latency.map(cell).join(' | ')} |`.replace('`random`', 'random')

function tableOf(scenario: Scenario, { rows, extent: { slower } }: Result): string {
  const rate = ((1_000 * rateOf(scenario)) / slower).toFixed(0)
  return [
    `**${scenario.title}**: ${scenario.about(slower)} ${rate} requests a second, ${100 * scenario.load} % of what the Pods can do.`,
    '',
    `| latency in ms | ${PERCENTS.map((percent) => `${percent} %`).join(' | ')} |`,
    `| --- | ${PERCENTS.map(() => '---').join(' | ')} |`,
    ...rows.filter((row) => row.scenario === scenario.name).map(line),
    '',
  ].join('\n')
}

const times = (number: number, what: string): string => `${count(number)} ${what}${number === 1 ? '' : 's'}`

const extentText = ({ extent: { rounds, count: requests }, kernel }: Result): string =>
  `Linux ${kernel}, ${count(rounds * requests)} requests for each line, in ${times(rounds, 'round')}` +
  (rounds > 1 ? '; in brackets the lowest and the highest round' : '') +
  '. "No waiting" is what requests take by themselves, on Pods that are not slow.'

const labText = ({ lab, failures, repeated, extent: { slower } }: Result): string =>
  `Of a request the lab itself took ${lab.median} ms (median; at 99 %: ${lab.at99} ms), sent it ${lab.lag99} ms late at ` +
  `99 %, and its processors were in use for ${(100 * lab.busy).toFixed(0)} %, each in the worst round; ` +
  `${times(repeated, 'round')} with more than ${slower * LIMITS.overhead99} ms, ${slower * LIMITS.lag99} ms or ${100 * LIMITS.busy} % ` +
  `${repeated === 1 ? 'was' : 'were'} measured again. ${times(failures, 'request')} failed.`

/** All tables, and how far to trust them. */
export async function tables(result: Result): Promise<string> {
  const parts = SCENARIOS.map((scenario) => tableOf(scenario, result))
  const text = [extentText(result), labText(result), '', ...parts].join('\n')
  return format(text, { parser: 'markdown', printWidth: 120, proseWrap: 'always' })
}

const IMAGE = '![Latency at 50, 99 and 99.9 %, for each way to choose](schedulers.svg)'
const MARKS = /(<!-- Made by scripts\/schedulers\/report\.ts\. -->\n)[^]*?(<!-- Up to here\. -->)/

/** The page with these tables in place of those that it has. */
export async function pageWith(result: Result, page: string): Promise<string> {
  const text = await tables(result)
  if (!MARKS.test(page)) throw new Error(`${PAGE}: the marks between which the tables stand are missing`)
  return page.replace(MARKS, (_, before: string, after: string) => `${before}\n${text}\n${IMAGE}\n\n${after}`)
}

async function writeReport(args: readonly string[]): Promise<void> {
  const rounds = readFileSync(join(OUT, 'rounds.jsonl'), 'utf8').trim().split('\n')
  const result = summarize(
    rounds.map((text) => JSON.parse(text) as Round),
    extentOf(args),
  )
  const json = await format(JSON.stringify(result), { parser: 'json', printWidth: 110 })
  writeFileSync(join(OUT, 'result.json'), json)
  writeFileSync(join(OUT, 'table.md'), await tables(result))
  writeFileSync(join(OUT, 'latency.svg'), plot(result.rows))
  console.log(await tables(result))
  if (result.failures > 0) process.exitCode = 1
  else if (args.includes('--record')) {
    writeFileSync(RECORDED, json)
    writeFileSync(PLOT, plot(result.rows))
    writeFileSync(PAGE, await pageWith(result, readFileSync(PAGE, 'utf8')))
  }
}

if (import.meta.main) void writeReport(process.argv.slice(2))
