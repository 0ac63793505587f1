// The page's own words, in Chinese and English. Knows nothing of answers.

const WORDS = {
  en: {
    other: "中文", model: "Model", compare: "Side by side", fresh: "New chat", key: "API key", log: "Conversation",
    question: "Ask a question", send: "Send", stop: "Stop", close: "Close",
    hint: "Answers of “-rag” models cite rows of your workbook: open a number to read the row. "
      + "Enter sends, Shift+Enter begins a line, Escape stops.",
    subject: "Subject", cell: "Cell", rowId: "Row", keep: "Use this key", forget: "Forget it",
    keyTitle: "This service asks for an API key", keyWhy: "It is kept in this tab only, until the tab is closed.",
    source: "Source", quoted: "Word for word from the workbook", refused: "No answer in the knowledge base",
    nearest: "The nearest entry:",
    cut: "Cut off: longest answer reached", stopped: "Stopped", answering: "Answering…",
    halfWay: "The answer ended half-way.", unreachable: "The service cannot be reached.",
    rowMissing: "The row could not be opened; this is what the answer was given.",
    timing: (first, total) => `first text ${first} s, all ${total} s`,
  },
  zh: {
    other: "English", model: "模型", compare: "并排比较", fresh: "新对话", key: "API 密钥", log: "对话",
    question: "请输入问题", send: "发送", stop: "停止", close: "关闭",
    hint: "名称带 “-rag” 的模型会引用知识库的行:点开编号即可查看原文。回车发送,Shift+回车换行,Esc 停止。",
    subject: "主题", cell: "单元格", rowId: "行号", keep: "使用此密钥", forget: "清除",
    keyTitle: "此服务需要 API 密钥", keyWhy: "密钥只保存在此标签页中,关闭标签页即清除。",
    source: "来源", quoted: "逐字引自知识库", refused: "知识库中没有答案", nearest: "最接近的条目:",
    cut: "已截断:达到最大长度", stopped: "已停止", answering: "正在回答…",
    halfWay: "回答中途中断。", unreachable: "无法连接到服务。",
    rowMissing: "无法打开该行;以下是回答时所用的内容。",
    timing: (first, total) => `首字 ${first} 秒,共 ${total} 秒`,
  },
};
const KEPT_AS = "groundtune-language";

let language = sessionStorage.getItem(KEPT_AS) ?? (navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en");

/** The words of the language that was chosen. */
export function words() {
  return WORDS[language];
}

/** Choose the other language. */
export function switchLanguage() {
  language = language === "zh" ? "en" : "zh";
  sessionStorage.setItem(KEPT_AS, language);
}

/** Put the page's words where `data-text`, `data-label` and `data-placeholder` ask for them. */
export function label(root) {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const node of root.querySelectorAll("[data-text]")) node.textContent = words()[node.dataset.text];
  for (const node of root.querySelectorAll("[data-label]")) node.setAttribute("aria-label", words()[node.dataset.label]);
  for (const node of root.querySelectorAll("[data-placeholder]")) node.placeholder = words()[node.dataset.placeholder];
}
