// Run by node with npm's openai: what it gets, as JSON.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.env.API_URL, apiKey: process.env.API_KEY, maxRetries: 0 });
const messages = (content) => [{ role: "user", content }];
const answer = await client.chat.completions.create({ model: "base", messages: messages("能吃盐吗?") });
const cited = await client.chat.completions.create({ model: "base-rag", messages: messages("要喝水吗?") });
let streamed = "";
const stream = await client.chat.completions.create({
  model: "base-rag",
  messages: messages("要喝水吗?"),
  stream: true,
});
for await (const chunk of stream) streamed += chunk.choices[0]?.delta?.content ?? "";
let error = null;
try {
  await client.chat.completions.create({ model: "none", messages: messages("?") });
} catch (found) {
  error = found instanceof OpenAI.NotFoundError ? "NotFoundError" : String(found);
}
console.log(
  JSON.stringify({
    text: answer.choices[0].message.content,
    tokens: answer.usage.completion_tokens,
    annotations: cited.choices[0].message.annotations,
    streamed,
    error,
  }),
);
