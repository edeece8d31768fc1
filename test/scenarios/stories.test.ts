/** Stories of the loop, each told in a file of stories/: what happens, and what must be in the kernel and the log after it. */
import { readdirSync, readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { parseStories, subjectOf } from './story-parser.ts'
import { runStory } from './story-runner.ts'

const FOLDER = join(import.meta.dirname, 'stories')

describe('stories', () => {
  for (const name of readdirSync(FOLDER)) {
    const path = join(FOLDER, name)
    const file = relative(process.cwd(), path)
    const text = readFileSync(path, 'utf8')
    describe(subjectOf(file, text), () => {
      for (const story of parseStories(file, text)) it(story.title, () => runStory(story))
    })
  }
})
