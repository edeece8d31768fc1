/** Runs a story: steps, and after each of them what must be. The format is described in story-parser.ts. */
import { Expectations } from './story-expectations.ts'
import { type Sentence, StoryError, type StoryText } from './story-parser.ts'
import { findStep, type FoundStep } from './story-steps.ts'
import { World } from './story-world.ts'

/** Takes a step; what it throws names the sentence. */
async function take(file: string, { number }: Sentence, step: FoundStep, world: World): Promise<void> {
  try {
    await step.act(world)
  } catch (error) {
    throw error instanceof StoryError ? error : new StoryError(file, number, (error as Error).message, error)
  }
}

/** One sentence: a step is taken, an expectation is checked. */
async function say(
  file: string,
  sentence: Sentence,
  world: World,
  expectations: Expectations,
): Promise<void> {
  const step = findStep(file, sentence)
  if (step === undefined) {
    if (!(await expectations.check(sentence)))
      throw new StoryError(file, sentence.number, `"${sentence.text}" is neither a step nor an expectation`)
    return
  }
  if (step.isEvent) expectations.end()
  await take(file, sentence, step, world)
  if (step.isEvent) expectations.begin(sentence)
}

/** Throws a StoryError with `file:line` where the story is not what happens, or cannot be understood. */
export async function runStory({ file, sentences }: StoryText): Promise<void> {
  const world = new World()
  const expectations = new Expectations(file, world)
  const last = sentences.at(-1)!
  try {
    for (const sentence of sentences) await say(file, sentence, world, expectations)
    if (findStep(file, last)?.isEvent === false)
      throw new StoryError(file, last.number, `nothing comes of "${last.text}"`)
    expectations.end()
    await take(file, last, { isEvent: false, act: () => world.obey() }, world)
  } finally {
    await world.stop()
  }
}
