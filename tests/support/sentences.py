"""Sentences of several languages, as people speak them, for tests of encodings."""

from __future__ import annotations

__all__ = ["SENTENCES"]

SENTENCES = {
    "ja": (
        "今日はとても良い天気ですね。",
        "明日は雨が降るかもしれません。",
        "駅前の喫茶店でコーヒーを飲みました。",
        "彼は毎朝六時に起きて、新聞を読みます。",
        "来週の会議の資料を準備しておいてください。",
        "子供たちは公園で元気に遊んでいる。",
    ),
    "ko": (
        "오늘은 날씨가 정말 좋습니다.",
        "내일은 비가 올지도 모릅니다.",
        "저는 매일 아침 여섯 시에 일어납니다.",
        "역 앞에 있는 카페에서 커피를 마셨어요.",
        "다음 주 회의 자료를 준비해 주세요.",
        "아이들이 공원에서 즐겁게 놀고 있다.",
    ),
    "zh-TW": (
        "今天天氣很好,我們去公園散步吧。",
        "明天可能會下雨,記得帶雨傘。",
        "他每天早上六點起床看報紙。",
        "請問這班火車會停台北車站嗎?",
        "孩子們在院子裡高興地玩耍。",
        "這本書的內容非常有趣,值得一讀。",
    ),
    "zh-CN": (
        "今天天气很好,我们去公园散步吧。",
        "明天可能会下雨,记得带雨伞。",
        "他每天早上六点起床看报纸。",
        "请问这趟火车在北京站停吗?",
        "孩子们在院子里高兴地玩耍。",
        "上海是中国最大的城市之一。",
    ),
    "fr": (
        "Aujourd'hui, il fait très beau.",
        "Demain, il pleuvra peut-être à Orléans.",
        "Nous avons bu un café près de la gare.",
        "Où est-ce que ce train s'arrête ?",
        "Les élèves ont déjà mangé à la cantine.",
        "Ça va très bien, merci à tous.",
    ),
    "de": (
        "Heute ist schönes Wetter.",
        "Morgen könnte es regnen.",
        "Er steht jeden Morgen früh auf.",
        "Wir tranken Kaffee in der Nähe des Bahnhofs.",
        "Die größten Straßen sind gesperrt.",
        "Das Mädchen läuft über die Brücke.",
    ),
    "es": (
        "Hoy hace muy buen tiempo, ¿verdad?",
        "Mañana quizás lloverá en Málaga.",
        "Tomamos café cerca de la estación.",
        "Los niños juegan en el jardín.",
        "La reunión será el próximo miércoles.",
        "El año pasado viajé a Perú.",
    ),
    "ru": (
        "Сегодня очень хорошая погода.",
        "Завтра, возможно, пойдёт дождь.",
        "Мы пили кофе рядом, на станции.",
        "Этот поезд останавливается в Москве?",
        "Дети играют в парке.",
        "Книга очень интересная.",
    ),
    "pl": (
        "Dzisiaj jest bardzo ładna pogoda.",
        "Jutro może padać deszcz.",
        "Piliśmy kawę obok dworca.",
        "Czy ten pociąg zatrzymuje się w Łodzi?",
        "Proszę przygotować dokumenty na spotkanie.",
        "Książka jest bardzo ciekawa.",
    ),
}
"""Language -> sentences."""
